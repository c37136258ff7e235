//! Attacks from inside: what somebody's code could do in a sealed process of a running daemon, with the
//! descriptors that are open there. It needs a build with the feature `dev-sandbox`, whose processes make
//! the system calls that a test tells them to (`sandbox::puppet`).
//!
//! Every attack names the layers of which each alone stops it. That is proved for each of them with
//! the others switched off, and with all of them off the attack succeeds, so none fails for another
//! reason. The same table is in docs/threat-model.md.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "dev-sandbox")]
mod attack;
#[cfg(feature = "dev-sandbox")]
mod core;
#[cfg(feature = "dev-sandbox")]
mod factories;
#[cfg(feature = "dev-sandbox")]
mod files;
#[cfg(feature = "dev-sandbox")]
mod kernel;
#[cfg(feature = "dev-sandbox")]
mod network;
#[cfg(feature = "dev-sandbox")]
mod others;
#[cfg(feature = "dev-sandbox")]
mod processes;
#[cfg(feature = "dev-sandbox")]
mod puppet;
#[cfg(feature = "dev-sandbox")]
mod victims;

/// What makes a process obey is in no other build.
#[cfg(not(feature = "dev-sandbox"))]
#[test]
fn no_other_build_knows_a_word_of_it() {
    let daemon = std::fs::read(support::program("pestod")).expect("it is built");
    let holds = |word: &[u8]| daemon.windows(word.len()).any(|bytes| bytes == word);
    assert!(holds(b"PESTOD_WITHOUT_LAYERS"), "words of the environment can be found");
    assert!(!holds(b"PESTOD_PUPPET"));
}
