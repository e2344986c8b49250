//! One session: handshake, binding to enclaves, and messages.

use std::{collections::BTreeSet, sync::Arc};

use base_codec::cbor;
use base_prims::{Namespace, PublicKey};
use rt_tee::{EnclaveIdentity, Policy, VerifiedQuote};
use snow::{HandshakeState, TransportState};
use wire_runtime::enclave_rpc::{MAX_NOISE_MESSAGE_BYTES, Message, NOISE_PATTERN, RakBinding};

use super::RpcError;
use crate::{
    identity::{Identity, check_binding, insecure_unix_time, verify_endorsed, verify_quote},
    tee::Tee,
    verifier::Verifier,
};

/// Domain of the signature that binds a static key to an attestation key.
const BINDING_CONTEXT: &[u8] = b"EkRakRpc";

/// What a session requires of its other side, and shows of its own.
#[derive(Clone, Debug, Default)]
pub struct SessionConfig {
    /// Whose attestation is shown, once there is one.
    pub identity: Option<Arc<Identity>>,
    /// The enclaves that are allowed; `None` also allows those that show nothing.
    pub remote_enclaves: Option<BTreeSet<EnclaveIdentity>>,
    /// Which quotes count; where it is missing, those under the own policy.
    pub policy: Option<Policy>,
    /// Shows the node's endorsement rather than the quote alone.
    pub use_endorsement: bool,
    /// Looks the other node's attestation key up in the registry, for that runtime.
    pub registry: Option<(Arc<Verifier>, Namespace)>,
}

/// The enclave at the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its attestation key.
    pub rak: PublicKey,
    /// What its quote says.
    pub quote: VerifiedQuote,
    /// The node that endorsed it, if one did.
    pub endorsed_by: Option<PublicKey>,
}

enum State {
    First(Box<HandshakeState>),
    Second(Box<HandshakeState>),
    Transport(Box<TransportState>),
    /// The other side is not who it must be: it is told that the session ends, nothing else.
    Refused(Box<TransportState>),
    Closed,
}

/// A session.
pub struct Session {
    config: Arc<SessionConfig>,
    static_public: Vec<u8>,
    remote_node: Option<PublicKey>,
    info: Option<Arc<SessionInfo>>,
    state: State,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::First(_) => "first",
            State::Second(_) => "second",
            State::Transport(_) => "transport",
            State::Refused(_) => "refused",
            State::Closed => "closed",
        };
        f.debug_struct("Session").field("state", &state).field("info", &self.info).finish_non_exhaustive()
    }
}

impl Session {
    fn new(config: Arc<SessionConfig>, initiator: bool) -> Result<Self, RpcError> {
        let params = NOISE_PATTERN.parse().map_err(|e: snow::error::Error| RpcError::from(e))?;
        let builder = snow::Builder::new(params);
        let pair = builder.generate_keypair()?;
        let builder = builder.local_private_key(&pair.private)?;
        let handshake = if initiator { builder.build_initiator()? } else { builder.build_responder()? };
        Ok(Self {
            config,
            static_public: pair.public,
            remote_node: None,
            info: None,
            state: State::First(Box::new(handshake)),
        })
    }

    /// The side that begins.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn initiator(config: Arc<SessionConfig>) -> Result<Self, RpcError> {
        Self::new(config, true)
    }

    /// The side that answers.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn responder(config: Arc<SessionConfig>) -> Result<Self, RpcError> {
        Self::new(config, false)
    }

    /// Processes what came from the other side (nothing, for the initiator's first step). What must be sent in turn is
    /// put into `out`; a message comes back once the handshake is done.
    ///
    /// # Errors
    /// If the data is not what must come now. The session has then ended.
    pub fn process(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<Option<Message>, RpcError> {
        let mut buffer = vec![0; MAX_NOISE_MESSAGE_BYTES];
        match std::mem::replace(&mut self.state, State::Closed) {
            State::First(mut noise) => {
                if noise.is_initiator() {
                    if !data.is_empty() {
                        return Err(RpcError::InvalidInput);
                    }
                    let len = noise.write_message(&[], &mut buffer)?;
                    out.extend_from_slice(&buffer[..len]);
                } else {
                    noise.read_message(data, &mut buffer)?;
                    let len = noise.write_message(&self.binding(), &mut buffer)?;
                    out.extend_from_slice(&buffer[..len]);
                }
                self.state = State::Second(noise);
                Ok(None)
            }
            State::Second(mut noise) => {
                let len = noise.read_message(data, &mut buffer)?;
                let remote = noise.get_remote_static().map(<[u8]>::to_vec).ok_or(RpcError::InvalidState)?;
                let verified = self.verify_binding(&buffer[..len], &remote);
                let initiator = noise.is_initiator();
                if initiator {
                    let len = noise.write_message(&self.binding(), &mut buffer)?;
                    out.extend_from_slice(&buffer[..len]);
                }
                let transport = Box::new(noise.into_transport_mode()?);
                match verified {
                    Ok(info) => {
                        self.info = info;
                        self.state = State::Transport(transport);
                        Ok(None)
                    }
                    Err(error) if initiator => {
                        tracing::debug!(err = %error, "session refused");
                        self.state = State::Refused(transport);
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
            State::Transport(mut noise) => {
                let len = noise.read_message(data, &mut buffer)?;
                let message = cbor::from_slice(&buffer[..len]).map_err(RpcError::MalformedPayload)?;
                self.state = State::Transport(noise);
                Ok(Some(message))
            }
            State::Refused(_) | State::Closed => Err(RpcError::SessionClosed),
        }
    }

    /// Encrypts a message.
    ///
    /// # Errors
    /// If the handshake is not done, or the message is too long for one frame.
    pub fn write(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), RpcError> {
        let noise = match &mut self.state {
            State::Transport(noise) => noise,
            State::Refused(noise) if *message == Message::Close => noise,
            _ => return Err(RpcError::InvalidState),
        };
        let mut buffer = vec![0; MAX_NOISE_MESSAGE_BYTES];
        let len = noise.write_message(&cbor::to_vec(message), &mut buffer)?;
        out.extend_from_slice(&buffer[..len]);
        Ok(())
    }

    /// What is shown to the other side: nothing outside of enclaves.
    fn binding(&self) -> Vec<u8> {
        let Some((identity, quote)) = self.config.identity.as_ref().and_then(|id| Some((id, id.quote()?))) else {
            return Vec::new();
        };
        let binding = identity.sign_raw(BINDING_CONTEXT, &self.static_public);
        let endorsed = identity.endorsed().filter(|_| self.config.use_endorsement);
        let binding = match endorsed {
            Some(ect) => RakBinding::V2 { ect: Box::new(ect), binding },
            None => RakBinding::V1 { rak_pub: identity.rak(), binding, quote },
        };
        cbor::to_vec(&binding)
    }

    fn verify_binding(&self, raw: &[u8], remote_static: &[u8]) -> Result<Option<Arc<SessionInfo>>, RpcError> {
        if raw.is_empty() {
            return if self.config.remote_enclaves.is_some() { Err(RpcError::MismatchedEnclave) } else { Ok(None) };
        }
        let own = self.config.identity.as_ref();
        let policy = self.config.policy.clone().or_else(|| own.and_then(|id| id.quote_policy()));
        let policy = policy.ok_or(RpcError::MissingPolicy)?;
        let tee = own.map_or(Tee::None, |id| id.tee().clone());
        let shown: RakBinding = cbor::from_slice(raw).map_err(RpcError::MalformedPayload)?;
        let (info, signature) = open_binding(&shown, &policy, &tee)?;
        if self.config.remote_enclaves.as_ref().is_some_and(|allowed| !allowed.contains(&info.quote.identity)) {
            return Err(RpcError::MismatchedEnclave);
        }
        let signed = base_crypto::hash::sha512_256(&[BINDING_CONTEXT, remote_static]);
        if !info.rak.verify_prepared(&signed, &signature) {
            return Err(RpcError::Binding("bad signature".to_owned()));
        }
        self.check_registered(&info.rak)?;
        Ok(Some(Arc::new(info)))
    }

    /// The node that the session goes to is registered with that attestation key.
    fn check_registered(&self, rak: &PublicKey) -> Result<(), RpcError> {
        let Some((verifier, runtime)) = &self.config.registry else {
            return Ok(());
        };
        let id = self.remote_node.ok_or(RpcError::NodeNotRegistered)?;
        let node = verifier.latest_state().and_then(|state| state.node(&id));
        let node = node.map_err(|e| RpcError::Binding(e.to_string()))?.ok_or(RpcError::NodeNotRegistered)?;
        let published = node
            .runtimes()
            .iter()
            .filter(|rt| rt.id == *runtime)
            .filter_map(|rt| rt.capabilities.tee.as_ref())
            .any(|tee| tee.rak == *rak);
        if published { Ok(()) } else { Err(RpcError::RakNotFound) }
    }

    /// The enclave at the other side, if it proved to be one.
    pub fn info(&self) -> Option<Arc<SessionInfo>> {
        self.info.clone()
    }

    /// Whether messages can be sent.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Transport(_))
    }

    /// Whether the other side proved to be someone else.
    pub fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused(_))
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Ends the session without telling the other side.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// The node at the other side, as its host claims.
    pub fn remote_node(&self) -> Option<PublicKey> {
        self.remote_node
    }

    /// Sets the node at the other side, once.
    pub fn set_remote_node(&mut self, node: PublicKey) {
        self.remote_node.get_or_insert(node);
    }
}

/// Verifies what the other side showed, except that its key signed the session's.
fn open_binding(
    shown: &RakBinding,
    policy: &Policy,
    tee: &Tee,
) -> Result<(SessionInfo, base_prims::RawSignature), RpcError> {
    let plain = |quote: &rt_tee::Quote, rak: &PublicKey| -> Result<SessionInfo, RpcError> {
        let quote = verify_quote(quote, policy, tee, insecure_unix_time())?;
        check_binding(&quote, rak)?;
        Ok(SessionInfo { rak: *rak, quote, endorsed_by: None })
    };
    match shown {
        RakBinding::V0 { rak_pub, binding, avr } => {
            let quote = rt_tee::Quote { ias: Some(avr.clone()), pcs: None };
            Ok((plain(&quote, rak_pub)?, *binding))
        }
        RakBinding::V1 { rak_pub, binding, quote } => Ok((plain(quote, rak_pub)?, *binding)),
        RakBinding::V2 { ect, binding } => {
            let verified = verify_endorsed(ect, policy, tee)?;
            let info = SessionInfo { rak: ect.capability_tee.rak, quote: verified.quote, endorsed_by: verified.node };
            Ok((info, *binding))
        }
    }
}
