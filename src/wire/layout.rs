//! Where the bytes of a frame lie, declared once and used for reading, writing and checking.
//!
//! [`fields!`] declares a struct together with the offset of each field. From that one declaration come
//! the reader, the writer and the [`Place`]s by which every byte that has no name must be zero. So the
//! two directions cannot disagree, and a reserved byte cannot be forgotten. [`codes!`] does the same for
//! enums that are numbers on the wire, [`bits!`] for masks.
//!
//! Offsets are literals, and each declaration is checked at compile time to be in order, without overlap
//! and inside its bytes: the slices below cannot panic.

use super::rule::Field;

/// One named field among the bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The field's name, the same as in docs/protocol.md. Only that document's test reads it.
    pub(super) name: &'static str,
    /// In bytes from the start of the payload, the header or the rule.
    pub(super) offset: usize,
    /// In bytes.
    pub(super) size: usize,
}

/// What is wrong with bytes that were to become a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A byte without a name is not zero.
    Reserved,
    /// A number that stands for nothing.
    Value,
    /// A rule that is none, by its first wrong field.
    Rule(Field),
}

/// A value of fixed size in a frame, little-endian.
pub(super) trait Value: Copy {
    /// In bytes; `read` and `write` are given exactly so many.
    const SIZE: usize;
    fn read(bytes: &[u8]) -> Result<Self, Wrong>;
    fn write(self, bytes: &mut [u8]);
}

/// A struct that [`fields!`] declared.
pub(super) trait Fields: Copy {
    /// In order of their offsets.
    const LAYOUT: &'static [Place];
    /// Reads every field, and holds every byte between and after them to zero.
    fn read(bytes: &[u8]) -> Result<Self, Wrong>;
    /// Writes every field, and leaves all other bytes as they are.
    fn write(self, bytes: &mut [u8]);
}

/// The reserved bytes of a payload that has no fields at all.
pub(super) fn all_zero(bytes: &[u8]) -> Result<(), Wrong> {
    if bytes.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(Wrong::Reserved) }
}

/// Holds every byte outside the `layout` to zero.
pub(super) fn reserved_zero(bytes: &[u8], layout: &[Place]) -> Result<(), Wrong> {
    let mut from = 0;
    for place in layout {
        all_zero(&bytes[from..place.offset])?;
        from = place.offset + place.size;
    }
    all_zero(&bytes[from..])
}

/// Whether the places are in order, do not overlap and end within `size` bytes.
pub(super) const fn is_sound(layout: &[Place], size: usize) -> bool {
    let mut from = 0;
    let mut index = 0;
    while index < layout.len() {
        if layout[index].offset < from || layout[index].size == 0 {
            return false;
        }
        from = layout[index].offset + layout[index].size;
        index += 1;
    }
    from <= size
}

macro_rules! integers {
    ($($integer:ty),+) => { $(
        impl Value for $integer {
            const SIZE: usize = size_of::<Self>();
            fn read(bytes: &[u8]) -> Result<Self, Wrong> {
                let mut array = [0; size_of::<Self>()];
                array.copy_from_slice(bytes);
                Ok(Self::from_le_bytes(array))
            }
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )+ };
}
integers!(u8, u16, u32, u64);

impl<const N: usize> Value for [u8; N] {
    const SIZE: usize = N;
    fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }
    fn write(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self);
    }
}

/// `struct Name in SIZE { field: Type = offset, … }`: the struct and its [`Fields`].
macro_rules! fields {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident in $size:expr;
        $( $(#[$field_meta:meta])* $offset:literal $field:ident: $type:ty, )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis struct $name {
            $( $(#[$field_meta])* $vis $field: $type, )+
        }

        impl $crate::wire::layout::Fields for $name {
            const LAYOUT: &'static [$crate::wire::layout::Place] = &[$(
                $crate::wire::layout::Place {
                    name: stringify!($field),
                    offset: $offset,
                    size: <$type as $crate::wire::layout::Value>::SIZE,
                },
            )+];

            fn read(bytes: &[u8]) -> Result<Self, $crate::wire::layout::Wrong> {
                use $crate::wire::layout::Value;
                $crate::wire::layout::reserved_zero(bytes, Self::LAYOUT)?;
                Ok(Self {
                    $( $field: Value::read(&bytes[$offset..][..<$type as Value>::SIZE])?, )+
                })
            }

            fn write(self, bytes: &mut [u8]) {
                use $crate::wire::layout::Value;
                $( self.$field.write(&mut bytes[$offset..][..<$type as Value>::SIZE]); )+
            }
        }

        static_assertions::const_assert!($crate::wire::layout::is_sound(
            <$name as $crate::wire::layout::Fields>::LAYOUT,
            $size
        ));
    };
}

/// `enum Name: integer { Variant = code, … }`: a number on the wire that stands for one of a few things.
macro_rules! codes {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $integer:ident;
        $( $(#[$variant_meta:meta])* $code:literal $variant:ident, )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($integer)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $code, )+
        }

        impl $name {
            /// Every variant, in the order of its code.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// The number that stands for it on the wire.
            #[must_use]
            pub const fn code(self) -> $integer {
                self as $integer
            }

            /// What `code` stands for, if anything.
            #[must_use]
            pub const fn from_code(code: $integer) -> Option<Self> {
                match code {
                    $( $code => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl $crate::wire::layout::Value for $name {
            const SIZE: usize = size_of::<$integer>();
            fn read(bytes: &[u8]) -> Result<Self, $crate::wire::layout::Wrong> {
                let code = $crate::wire::layout::Value::read(bytes)?;
                Self::from_code(code).ok_or($crate::wire::layout::Wrong::Value)
            }
            fn write(self, bytes: &mut [u8]) {
                $crate::wire::layout::Value::write(self.code(), bytes);
            }
        }
    };
}

/// `struct Name(u32) { CONSTANT = bit "name", … }`: a mask whose unknown bits are kept, not refused.
macro_rules! bits {
    (
        $(#[$meta:meta])*
        pub struct $name:ident;
        $( $(#[$bit_meta:meta])* $bit:literal $constant:ident $text:literal, )+
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub u32);

        impl $name {
            $( $(#[$bit_meta])* pub const $constant: Self = Self($bit); )+

            /// Every bit with a name, and its name in lower case with hyphens; lowest bit first.
            pub const NAMED: &[(Self, &'static str)] = &[$( (Self::$constant, $text) ),+];

            /// Whether all bits of `other` are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// This mask and the bits of `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The names of the bits that are set. Bits of a newer daemon have none here.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                Self::NAMED
                    .iter()
                    .filter(move |(bit, _)| self.contains(*bit))
                    .map(|&(_, name)| name)
            }
        }

        impl $crate::wire::layout::Value for $name {
            const SIZE: usize = size_of::<u32>();
            fn read(bytes: &[u8]) -> Result<Self, $crate::wire::layout::Wrong> {
                $crate::wire::layout::Value::read(bytes).map(Self)
            }
            fn write(self, bytes: &mut [u8]) {
                $crate::wire::layout::Value::write(self.0, bytes);
            }
        }
    };
}

pub(super) use {bits, codes, fields};
