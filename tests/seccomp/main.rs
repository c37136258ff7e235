//! The policies of seccomp/ and the filters made of them, held together: each call that a policy
//! names passes the role's real filter, each other call and each other argument kills.

mod calls;
mod daemon;
mod heap;
mod names;
mod panics;
mod policy;
mod promises;
mod sealed;
#[path = "../support/mod.rs"]
mod support;
mod text;

/// As `pestod` has it. Only children that are about to end freeze it.
#[global_allocator]
static HEAP: pesto::sys::heap::Heap = pesto::sys::heap::Heap;
