//! Shapes that most methods have.

use std::sync::Arc;

use apps_core::kv::KvRead;
use base_codec::cbor::{Decode, Encode};
use base_grpc::{Cbor, Router, RpcError};
use wire_consensus::{churp, governance, keymanager, registry, roothash, scheduler, staking, vault};

use crate::backend::{Applied, Backend, service_error};
use crate::follow::{Watched, follow};

/// Something that goes over the wire.
pub(crate) trait Item: Encode + Decode + Send + 'static {}
impl<T: Encode + Decode + Send + 'static> Item for T {}

/// A query about a state.
pub(crate) trait AtHeight {
    /// Height of the state; 0 is the newest.
    fn height(&self) -> i64;
}

impl AtHeight for i64 {
    fn height(&self) -> i64 {
        *self
    }
}

macro_rules! at_height {
    ($($t:ty),* $(,)?) => { $(impl AtHeight for $t {
        fn height(&self) -> i64 {
            self.height
        }
    })* };
}

at_height!(
    churp::StatusQuery,
    governance::ProposalQuery,
    keymanager::StatusQuery,
    registry::ConsensusAddressQuery,
    registry::GetRuntimeQuery,
    registry::GetRuntimesQuery,
    registry::IdQuery,
    registry::NamespaceQuery,
    roothash::InMessageQueueRequest,
    roothash::RoundRootsRequest,
    roothash::RuntimeRequest,
    scheduler::GetCommitteesRequest,
    staking::AllowanceQuery,
    staking::OwnerQuery,
    staking::ThresholdQuery,
    vault::AddressQuery,
    vault::VaultQuery,
);

/// A list as the reference writes it where an empty one is nil.
pub fn nil<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Adds methods of one service.
pub(crate) struct Methods<'r> {
    router: &'r mut Router,
    service: String,
    backend: Arc<Backend>,
}

impl<'r> Methods<'r> {
    pub(crate) fn new(router: &'r mut Router, name: &str, backend: &Arc<Backend>) -> Self {
        Self { router, service: service(name), backend: Arc::clone(backend) }
    }

    /// A method that reads.
    pub(crate) fn call<A, T, F>(&mut self, method: &str, read: F) -> &mut Self
    where
        A: Item,
        T: Item,
        F: Fn(&Arc<Backend>, A) -> Result<T, RpcError> + Send + Sync + 'static,
    {
        let (backend, read) = (Arc::clone(&self.backend), Arc::new(read));
        self.router.unary(&self.service, method, move |Cbor(argument): Cbor<A>| {
            let (backend, read) = (Arc::clone(&backend), Arc::clone(&read));
            async move { backend.read(move |backend| read(backend, argument)).await.map(Cbor) }
        });
        self
    }

    /// A method that reads and takes no argument.
    pub(crate) fn get<T, F>(&mut self, method: &str, read: F) -> &mut Self
    where
        T: Item,
        F: Fn(&Arc<Backend>) -> Result<T, RpcError> + Send + Sync + 'static,
    {
        let (backend, read) = (Arc::clone(&self.backend), Arc::new(read));
        self.router.unary(&self.service, method, move |()| {
            let (backend, read) = (Arc::clone(&backend), Arc::clone(&read));
            async move { backend.read(move |backend| read(backend)).await.map(Cbor) }
        });
        self
    }

    /// A query of the state at some height.
    pub(crate) fn query<A, T, F>(&mut self, method: &str, query: F) -> &mut Self
    where
        A: Item + AtHeight,
        T: Item,
        F: Fn(&dyn KvRead, &A) -> apps_core::Result<T> + Send + Sync + 'static,
    {
        self.call(method, move |backend, argument: A| {
            let state = backend.state(argument.height())?;
            query(&state, &argument).map_err(|error| service_error(&error))
        })
    }

    /// A query of the state whose only argument is the height.
    pub(crate) fn at<T, F>(&mut self, method: &str, query: F) -> &mut Self
    where
        T: Item,
        F: Fn(&dyn KvRead) -> apps_core::Result<T> + Send + Sync + 'static,
    {
        self.query(method, move |kv, _: &i64| query(kv))
    }

    /// The events of the block at some height.
    pub(crate) fn events<T, F>(&mut self, read: F) -> &mut Self
    where
        T: Item,
        F: Fn(&Applied) -> apps_core::Result<Vec<T>> + Send + Sync + 'static,
    {
        self.call("GetEvents", move |backend, height: i64| {
            let applied = Applied::load(backend, backend.height(height)?)?;
            read(&applied).map(nil).map_err(|error| service_error(&error))
        })
    }

    /// A stream of what `items` finds in each block.
    pub(crate) fn watch<T, F>(&mut self, method: &str, items: F) -> &mut Self
    where
        T: Item,
        F: Fn(&Applied) -> apps_core::Result<Vec<T>> + Send + Sync + 'static,
    {
        let watched = Watched {
            first: |_: &Arc<Backend>, _: &()| Ok((None, Vec::new())),
            items: move |_: &Arc<Backend>, (): &(), applied: &Applied| {
                items(applied).map_err(|error| service_error(&error))
            },
        };
        let (backend, watched) = (Arc::clone(&self.backend), Arc::new(watched));
        self.router.streaming(&self.service, method, move |()| follow(Arc::clone(&backend), (), Arc::clone(&watched)));
        self
    }

    /// A stream that begins with what the newest state holds, and goes on with what `items` finds in each later block.
    pub(crate) fn watch_from<T, S, F>(&mut self, method: &str, first: S, items: F) -> &mut Self
    where
        T: Item,
        S: Fn(&dyn KvRead) -> apps_core::Result<Vec<T>> + Send + Sync + 'static,
        F: Fn(&Arc<Backend>, &Applied) -> Result<Vec<T>, RpcError> + Send + Sync + 'static,
    {
        let watched = Watched {
            first: move |backend: &Arc<Backend>, (): &()| from_newest(backend, |kv| first(kv)),
            items: move |backend: &Arc<Backend>, (): &(), applied: &Applied| items(backend, applied),
        };
        let (backend, watched) = (Arc::clone(&self.backend), Arc::new(watched));
        self.router.streaming(&self.service, method, move |()| follow(Arc::clone(&backend), (), Arc::clone(&watched)));
        self
    }

    /// A stream about one argument.
    pub(crate) fn watch_for<A, T, S, F>(&mut self, method: &str, first: S, items: F) -> &mut Self
    where
        A: Item + Sync,
        T: Item,
        S: Fn(&Arc<Backend>, &A) -> Result<(Option<i64>, Vec<T>), RpcError> + Send + Sync + 'static,
        F: Fn(&Arc<Backend>, &A, &Applied) -> Result<Vec<T>, RpcError> + Send + Sync + 'static,
    {
        let (backend, watched) = (Arc::clone(&self.backend), Arc::new(Watched { first, items }));
        self.router.streaming(&self.service, method, move |Cbor(argument): Cbor<A>| {
            follow(Arc::clone(&backend), argument, Arc::clone(&watched))
        });
        self
    }

    /// The parts below, for methods of other shapes.
    pub(crate) fn raw(&mut self) -> (&mut Router, &str, Arc<Backend>) {
        (self.router, &self.service, Arc::clone(&self.backend))
    }
}

/// What the newest state holds, and its height; nothing before the first block.
pub(crate) fn from_newest<T>(
    backend: &Arc<Backend>,
    first: impl Fn(&dyn KvRead) -> apps_core::Result<Vec<T>>,
) -> Result<(Option<i64>, Vec<T>), RpcError> {
    if backend.queries.latest().height == 0 {
        return Ok((None, Vec::new()));
    }
    let state = backend.state(0)?;
    let items = first(&state).map_err(|error| service_error(&error))?;
    Ok((Some(state.height), items))
}

/// Full name of a service.
pub(crate) fn service(name: &str) -> String {
    format!("oasis-core.{name}")
}
