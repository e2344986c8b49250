//! The macros that declare the two kinds of newtype the network is full of: fixed byte arrays and named integers.

/// Declares a type that is `[n]byte` with a binary (un)marshaler in the reference: keys, hashes, addresses.
///
/// ```
/// base_codec::fixed_bytes! {
///     /// A hash.
///     pub struct Hash([u8; 32]);
/// }
/// assert_eq!(base_codec::cbor::to_vec(&Hash::default())[..2], [0x58, 32]);
/// ```
///
/// The type is `Copy`, ordered bytewise, prints as hex with `{:?}`, and is a byte string in CBOR: one of another length
/// is refused when reading, while an array of small integers is cut or zero-filled, as the reference does. `Display`,
/// `ToJson`, `FromJson` and `JsonKey` are left to the user.
///
/// With `pub struct Namespace([u8; 32], check = path);`, where `path` is a
/// `fn(&[u8; 32]) -> Result<(), impl Display>`, byte strings must also pass that check (not arrays of integers, nor
/// `new`).
#[macro_export]
macro_rules! fixed_bytes {
    ($(#[$meta:meta])* $vis:vis struct $name:ident([u8; $len:expr] $(, check = $check:path)?) $(;)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name([u8; $len]);

        #[allow(dead_code, unreachable_pub)]
        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The value with these bytes, unchecked.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Lowercase hex of the bytes.
            pub fn to_hex(self) -> ::std::string::String {
                $crate::__private::hex::encode(self.0)
            }
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self([0; $len])
            }
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::write!(f, "{}({})", ::core::stringify!($name), $crate::__private::hex::encode(self.0))
            }
        }

        impl ::core::convert::AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl ::core::convert::From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl ::core::convert::From<$name> for [u8; $len] {
            fn from(v: $name) -> Self {
                v.0
            }
        }

        impl ::core::convert::TryFrom<&[u8]> for $name {
            type Error = $crate::FixedBytesError;

            fn try_from(bytes: &[u8]) -> ::core::result::Result<Self, $crate::FixedBytesError> {
                let bytes = <[u8; $len]>::try_from(bytes).map_err(|_| $crate::FixedBytesError::Length {
                    expected: $len,
                    found: bytes.len(),
                })?;
                $($check(&bytes).map_err(|reason| $crate::FixedBytesError::Refused {
                    reason: ::std::string::ToString::to_string(&reason),
                })?;)?
                ::core::result::Result::Ok(Self(bytes))
            }
        }

        impl $crate::cbor::Encode for $name {
            fn encode(&self, e: &mut $crate::cbor::Encoder) {
                e.bytes(&self.0);
            }
        }

        impl $crate::cbor::Decode for $name {
            fn decode(d: &mut $crate::cbor::Decoder<'_>) -> ::core::result::Result<Self, $crate::cbor::Error> {
                $crate::cbor::decode_binary(d, |bytes: &[u8]| <Self as ::core::convert::TryFrom<&[u8]>>::try_from(bytes), Self)
            }
        }
    };
}

/// Why bytes are no value of a type declared with [`fixed_bytes!`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FixedBytesError {
    /// The wrong number of bytes.
    #[error("expected {expected} bytes, found {found}")]
    Length {
        /// The type's length.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// The type's own check failed.
    #[error("{reason}")]
    Refused {
        /// What the check said.
        reason: String,
    },
}

/// Declares a named integer: any value of the integer can be read and held, and known ones have names.
///
/// ```
/// base_codec::int_type! {
///     /// Why stake was taken.
///     text pub struct Reason: u8 {
///         /// Two votes for one height.
///         EQUIVOCATION = 1 => "equivocation",
///     }
/// }
/// assert_eq!(base_codec::cbor::to_vec(&Reason::EQUIVOCATION), [1]);
/// assert_eq!(base_codec::json::to_string(&Reason::EQUIVOCATION), "\"equivocation\"");
/// ```
///
/// CBOR is the integer. JSON and JSON map keys are the name in the `text` variant (a Go text marshaler; a value without
/// a name is written as its decimal text, and only names can be read) and the integer in the `int` variant. `Display`
/// prints the name, or the decimal value if there is none.
#[macro_export]
macro_rules! int_type {
    ($(#[$meta:meta])* text $($rest:tt)*) => {
        $crate::int_type!(@parse text [$(#[$meta])*] $($rest)*);
    };
    ($(#[$meta:meta])* int $($rest:tt)*) => {
        $crate::int_type!(@parse int [$(#[$meta])*] $($rest)*);
    };
    (@parse $mode:ident [$(#[$outer:meta])*] $(#[$meta:meta])* $vis:vis struct $name:ident: $int:ident {
        $($(#[$item_meta:meta])* $item:ident = $value:expr => $text:expr),* $(,)?
    }) => {
        $(#[$outer])* $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(pub $int);

        #[allow(dead_code, unreachable_pub)]
        impl $name {
            $(#[doc = $text] $(#[$item_meta])* pub const $item: Self = Self($value);)*

            /// All values that have a name.
            pub const KNOWN: &'static [Self] = &[$(Self::$item),*];

            /// The name, if the value has one.
            pub fn name(self) -> ::core::option::Option<&'static str> {
                $(if self.0 == Self::$item.0 {
                    return ::core::option::Option::Some($text);
                })*
                ::core::option::Option::None
            }

            /// The value of that name.
            pub fn from_name(name: &str) -> ::core::option::Option<Self> {
                $(if name == $text {
                    return ::core::option::Option::Some(Self::$item);
                })*
                let _ = name;
                ::core::option::Option::None
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self.name() {
                    ::core::option::Option::Some(name) => f.write_str(name),
                    ::core::option::Option::None => ::core::fmt::Display::fmt(&self.0, f),
                }
            }
        }

        impl ::core::convert::From<$int> for $name {
            fn from(v: $int) -> Self {
                Self(v)
            }
        }

        impl ::core::convert::From<$name> for $int {
            fn from(v: $name) -> Self {
                v.0
            }
        }

        impl $crate::cbor::Encode for $name {
            fn encode(&self, e: &mut $crate::cbor::Encoder) {
                $crate::cbor::Encode::encode(&self.0, e);
            }
            fn is_empty(&self) -> bool {
                self.0 == 0
            }
        }

        impl $crate::cbor::Decode for $name {
            const SCALAR: bool = true;
            fn decode(d: &mut $crate::cbor::Decoder<'_>) -> ::core::result::Result<Self, $crate::cbor::Error> {
                $crate::cbor::Decode::decode(d).map(Self)
            }
        }

        $crate::int_type!(@json $mode $name);
    };
    (@json text $name:ident) => {
        impl $crate::json::ToJson for $name {
            fn to_json(&self) -> $crate::__private::Value {
                $crate::__private::Value::String(::std::string::ToString::to_string(self))
            }
            fn is_empty_json(&self) -> bool {
                self.0 == 0
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(
                v: &$crate::__private::Value,
                cx: &mut $crate::json::Context,
            ) -> ::core::result::Result<Self, $crate::json::Error> {
                match v {
                    $crate::__private::Value::Null => ::core::result::Result::Ok(Self::default()),
                    $crate::__private::Value::String(text) => {
                        <Self as $crate::json::JsonKey>::from_key(text).map_err(|problem| cx.error(problem))
                    }
                    other => ::core::result::Result::Err(cx.expected("a string", other)),
                }
            }
        }

        impl $crate::json::JsonKey for $name {
            fn to_key(&self) -> ::std::string::String {
                ::std::string::ToString::to_string(self)
            }
            fn from_key(s: &str) -> ::core::result::Result<Self, ::std::string::String> {
                Self::from_name(s)
                    .ok_or_else(|| ::std::format!("{:?} is no name of a {}", s, ::core::stringify!($name)))
            }
        }
    };
    (@json int $name:ident) => {
        impl $crate::json::ToJson for $name {
            fn to_json(&self) -> $crate::__private::Value {
                $crate::json::ToJson::to_json(&self.0)
            }
            fn is_empty_json(&self) -> bool {
                self.0 == 0
            }
        }

        impl $crate::json::FromJson for $name {
            fn from_json(
                v: &$crate::__private::Value,
                cx: &mut $crate::json::Context,
            ) -> ::core::result::Result<Self, $crate::json::Error> {
                $crate::json::FromJson::from_json(v, cx).map(Self)
            }
        }

        impl $crate::json::JsonKey for $name {
            fn to_key(&self) -> ::std::string::String {
                $crate::json::JsonKey::to_key(&self.0)
            }
            fn from_key(s: &str) -> ::core::result::Result<Self, ::std::string::String> {
                $crate::json::JsonKey::from_key(s).map(Self)
            }
        }
    };
}
