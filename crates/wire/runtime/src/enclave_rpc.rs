//! Calls between enclaves: frames, requests and answers, and how a session is bound to an enclave.
//!
//! Source: `runtime/src/enclave_rpc/{types,session}.rs`, `go/runtime/enclaverpc/api`.

use base_codec::{
    Bytes, Codec, Raw,
    cbor::{self, Decode, Decoder, Encode, Encoder, Kind as ItemKind},
    fixed_bytes, int_type,
};
use base_prims::{PublicKey, RawSignature};
use wire_consensus::node::EndorsedCapabilityTee;

/// Pattern of the handshake.
pub const NOISE_PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";

/// Most bytes of a Noise message.
pub const MAX_NOISE_MESSAGE_BYTES: usize = 65_535;

int_type! { int
    /// How a call is encoded.
    pub struct Kind: u8 {
        /// Encrypted in a session.
        NOISE_SESSION = 0 => "noise session",
        /// Plain.
        INSECURE_QUERY = 1 => "insecure query",
        /// To the host itself.
        LOCAL_QUERY = 2 => "local query",
    }
}

int_type! { int
    /// How good a peer was.
    pub struct PeerFeedback: u8 {
        /// The call succeeded.
        SUCCESS = 0 => "success",
        /// It failed.
        FAILURE = 1 => "failure",
        /// The peer should not be used again.
        BAD_PEER = 2 => "bad peer",
    }
}

fixed_bytes! {
    /// Tells the sessions of a transport apart, 32 bytes.
    pub struct SessionId([u8; 32]);
}

/// A frame of a session. CBOR: `{payload, session, untrusted_plaintext}`.
///
/// Runtimes send all three fields, and so does this type. The reference's node, which only reads frames, leaves out
/// empty ones in its own copy of the type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Frame {
    /// The session.
    pub session: SessionId,
    /// A copy of the request's method for those on the way; empty in other messages.
    pub untrusted_plaintext: String,
    /// A Noise message.
    pub payload: Bytes,
}

/// A request. CBOR: `{args, method}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Its arguments.
    pub args: Raw,
}

/// An answer. CBOR: `{body}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Response {
    /// What it says.
    pub body: ResponseBody,
}

/// An answer's content. CBOR: `{"Success": value}` or `{"Error": text}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// The result; `null` is a result.
    Success(Raw),
    /// What went wrong.
    Error(String),
}

impl Default for ResponseBody {
    fn default() -> Self {
        Self::Error(String::new())
    }
}

impl Encode for ResponseBody {
    fn encode(&self, e: &mut Encoder) {
        e.map(1);
        match self {
            Self::Success(value) => {
                e.text("Success");
                value.encode(e);
            }
            Self::Error(text) => {
                e.text("Error");
                e.text(text);
            }
        }
    }
}

impl Decode for ResponseBody {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let (offset, mut found) = (d.offset(), None);
        cbor::decode_map_struct(d, &["Error", "Success"], |i, d| {
            if found.is_some() {
                return Err(cbor::Error::invalid(d.offset(), "result and error"));
            }
            found = Some(match i {
                0 => Self::Error(String::decode(d)?),
                _ => Self::Success(Raw::decode(d)?),
            });
            Ok(())
        })?;
        found.ok_or_else(|| cbor::Error::invalid(offset, "neither result nor error"))
    }
}

/// A message in a session, or the answer to a local call. CBOR: `{"Request": …}`, `{"Response": …}` or `"Close"`.
///
/// Names are read in any case, as the reference's node does.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Message {
    /// Asks.
    Request(Request),
    /// Answers.
    Response(Response),
    /// Ends the session.
    #[default]
    Close,
}

impl Encode for Message {
    fn encode(&self, e: &mut Encoder) {
        match self {
            Self::Request(request) => {
                e.map(1);
                e.text("Request");
                request.encode(e);
            }
            Self::Response(response) => {
                e.map(1);
                e.text("Response");
                response.encode(e);
            }
            Self::Close => e.text("Close"),
        }
    }
}

impl Decode for Message {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let (offset, mut found) = (d.offset(), None);
        if d.kind()? == ItemKind::Text {
            return match d.text()? {
                "Close" => Ok(Self::Close),
                other => Err(cbor::Error::invalid(offset, format!("unknown message {:.32}", other))),
            };
        }
        cbor::decode_map_struct(d, &["Request", "Response"], |i, d| {
            if found.is_some() {
                return Err(cbor::Error::invalid(d.offset(), "more than one message"));
            }
            found = Some(match i {
                0 => Self::Request(Request::decode(d)?),
                _ => Self::Response(Response::decode(d)?),
            });
            Ok(())
        })?;
        found.ok_or_else(|| cbor::Error::invalid(offset, "no message"))
    }
}

/// Binds a session's static key to an enclave; payload of the handshake's second and third message.
///
/// CBOR: a map with `v` (missing in the first version).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RakBinding {
    /// `{avr, binding, rak_pub}`, older attestation service only.
    V0 {
        /// The enclave's attestation key.
        rak_pub: PublicKey,
        /// Its signature over the session's static key.
        binding: RawSignature,
        /// What binds it to an enclave.
        avr: rt_tee::ias::AvrBundle,
    },
    /// `{v: 1, quote, binding, rak_pub}`.
    V1 {
        /// The enclave's attestation key.
        rak_pub: PublicKey,
        /// Its signature over the session's static key.
        binding: RawSignature,
        /// What binds it to an enclave.
        quote: rt_tee::Quote,
    },
    /// `{v: 2, ect, binding}`.
    V2 {
        /// The enclave's capability, endorsed by its node.
        ect: Box<EndorsedCapabilityTee>,
        /// Signature over the session's static key.
        binding: RawSignature,
    },
}

impl Default for RakBinding {
    fn default() -> Self {
        Self::V0 {
            rak_pub: PublicKey::default(),
            binding: RawSignature::default(),
            avr: rt_tee::ias::AvrBundle::default(),
        }
    }
}

/// All fields of all versions.
#[derive(Default, Codec)]
#[codec(cbor_only)]
struct BindingFields {
    #[codec(omitempty)]
    v: u64,
    #[codec(omitempty)]
    rak_pub: Option<PublicKey>,
    #[codec(omitempty)]
    binding: Option<RawSignature>,
    #[codec(omitempty)]
    avr: Option<rt_tee::ias::AvrBundle>,
    #[codec(omitempty)]
    quote: Option<rt_tee::Quote>,
    #[codec(omitempty)]
    ect: Option<Box<EndorsedCapabilityTee>>,
}

impl Encode for RakBinding {
    fn encode(&self, e: &mut Encoder) {
        let fields = match self.clone() {
            Self::V0 { rak_pub, binding, avr } => {
                BindingFields { rak_pub: Some(rak_pub), binding: Some(binding), avr: Some(avr), ..Default::default() }
            }
            Self::V1 { rak_pub, binding, quote } => BindingFields {
                v: 1,
                rak_pub: Some(rak_pub),
                binding: Some(binding),
                quote: Some(quote),
                ..Default::default()
            },
            Self::V2 { ect, binding } => {
                BindingFields { v: 2, ect: Some(ect), binding: Some(binding), ..Default::default() }
            }
        };
        fields.encode(e);
    }
}

impl Decode for RakBinding {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let offset = d.offset();
        let f = BindingFields::decode(d)?;
        let malformed = || cbor::Error::invalid(offset, "malformed key binding");
        match f {
            BindingFields {
                v: 0,
                rak_pub: Some(rak_pub),
                binding: Some(binding),
                avr: Some(avr),
                quote: None,
                ect: None,
            } => Ok(Self::V0 { rak_pub, binding, avr }),
            BindingFields {
                v: 1,
                rak_pub: Some(rak_pub),
                binding: Some(binding),
                quote: Some(quote),
                avr: None,
                ect: None,
            } => Ok(Self::V1 { rak_pub, binding, quote }),
            BindingFields { v: 2, ect: Some(ect), binding: Some(binding), rak_pub: None, avr: None, quote: None } => {
                Ok(Self::V2 { ect, binding })
            }
            _ => Err(malformed()),
        }
    }
}
