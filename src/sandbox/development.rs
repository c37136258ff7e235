//! Layers that are switched off for a test. Only a build with the feature `dev-sandbox` can do that:
//! it says so in its version and at its start, and in STATUS if it has done it.

use crate::wire::Layers;
use std::ffi::OsString;

/// What the version ends with.
pub const SUFFIX: &str = if cfg!(feature = "dev-sandbox") { "-dev-sandbox" } else { "" };

/// The environment variable that names them, with commas.
pub const VARIABLE: &str = "PESTOD_WITHOUT_LAYERS";

/// What can be switched off. The user namespace is what the core's others are made in, and the
/// others need `no-new-privs`.
const OPTIONAL: Layers = Layers::SECCOMP
    .with(Layers::NO_CAPABILITIES)
    .with(Layers::NOT_DUMPABLE)
    .with(Layers::MDWE)
    .with(Layers::USER_NAMESPACE)
    .with(Layers::MOUNT_NAMESPACE)
    .with(Layers::LANDLOCK)
    .with(Layers::RLIMITS)
    .with(Layers::FROZEN_HEAP);

/// The layers that a test goes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Without(Layers);

impl Without {
    /// Every layer is wanted.
    pub const NOTHING: Self = Self(Layers(0));

    /// Those of [`VARIABLE`], which is not even looked at in a build without the feature.
    ///
    /// # Errors
    /// A word that is no such layer's name.
    pub fn from_environment() -> Result<Self, OsString> {
        if !cfg!(feature = "dev-sandbox") {
            return Ok(Self::NOTHING);
        }
        let words = std::env::var_os(VARIABLE).unwrap_or_default();
        let text = words.to_str().ok_or_else(|| words.clone())?;
        let named = |word: &str| {
            let known = Layers::NAMED.iter().find(|(_, name)| *name == word);
            known.map(|(layer, _)| *layer).filter(|layer| OPTIONAL.contains(*layer))
        };
        let words = text.split(',').filter(|word| !word.is_empty());
        words
            .map(|word| named(word).ok_or_else(|| word.into()))
            .try_fold(Self::NOTHING, |Self(all), layer: Result<_, OsString>| {
                Ok(Self(all.with(layer?)))
            })
    }

    /// Whether this one is switched off. Never in a build without the feature.
    #[must_use]
    pub const fn names(self, layer: Layers) -> bool {
        cfg!(feature = "dev-sandbox") && self.0.contains(layer)
    }

    /// Those that are switched off.
    #[must_use]
    pub const fn layers(self) -> Layers {
        if cfg!(feature = "dev-sandbox") { self.0 } else { Layers(0) }
    }
}
