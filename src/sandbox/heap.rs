//! After the filter: no memory from the heap any more, not even what is left of it.

use crate::sys::heap;
use crate::wire::Layers;

/// Freezes the heap, for ever: whoever asks it for memory ends the process. The layer, which is there
/// only where the program's allocator is one that can be frozen.
#[must_use]
pub fn freeze() -> Layers {
    if heap::freeze() { Layers::FROZEN_HEAP } else { Layers(0) }
}
