//! Typed events: how services report what they did.

use base_codec::cbor::Encode;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// An event that is one attribute of an ABCI event: the key is the kind, the value base64 of the CBOR.
///
/// Source: `go/consensus/api/events`.
pub trait TypedEvent: Encode {
    /// Attribute key.
    const KIND: &'static str;
    /// Whether it is a leaf of the block's events root.
    const PROVABLE: bool = false;

    /// Attribute value.
    fn attribute_value(&self) -> String {
        STANDARD.encode(base_codec::cbor::to_vec(self))
    }
}

/// Implements [`TypedEvent`]: `typed_event!(TransferEvent, "transfer", provable)` or without `provable`.
#[macro_export]
macro_rules! typed_event {
    ($t:ty, $kind:expr) => {
        impl $crate::events::TypedEvent for $t {
            const KIND: &'static str = $kind;
        }
    };
    ($t:ty, $kind:expr, provable) => {
        impl $crate::events::TypedEvent for $t {
            const KIND: &'static str = $kind;
            const PROVABLE: bool = true;
        }
    };
}

/// Prefix of the ABCI event type; the service's name follows.
pub const EVENT_TYPE_PREFIX: &str = "oasis_event_";
