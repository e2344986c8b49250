//! The address book shared by tasks, with the clock and its file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comet_core::PeerId;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tracing::{debug, info, warn};

use crate::address::NetAddress;
use crate::book::{Book, file};
use crate::config::NetConfig;

/// The book behind a lock.
pub(crate) struct BookStore {
    book: Mutex<Book>,
    path: Option<Arc<PathBuf>>,
}

impl BookStore {
    /// Opens the book's file, if there is one; a broken one is put aside.
    pub(crate) async fn open(config: &NetConfig, id: &PeerId) -> Self {
        let path = config.addr_book.clone().map(Arc::new);
        let mut book = Book::new(config.addr_book_strict);
        book.set_our_id(id.clone());
        book.set_private(config.private.clone());
        if let Some(path) = path.clone() {
            let strict = config.addr_book_strict;
            let read = tokio::task::spawn_blocking(move || {
                let mut saved = Book::new(strict);
                let loaded = file::load(&mut saved, &path);
                if loaded.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData) {
                    // If this fails too, the broken file is overwritten by the next save.
                    let _ = std::fs::rename(&*path, path.with_extension("json.broken"));
                }
                (saved, loaded, path)
            });
            match read.await {
                Ok((saved, Ok(count), path)) => {
                    info!(path = %path.display(), count, "address book loaded");
                    book = saved;
                    book.set_our_id(id.clone());
                    book.set_private(config.private.clone());
                }
                Ok((_, Err(error), path)) => warn!(path = %path.display(), %error, "address book is broken"),
                Err(error) => warn!(%error, "address book not read"),
            }
        }
        let own = config.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let source = NetAddress { id: id.clone(), ip: own.ip(), port: own.port() };
        let store = Self { book: Mutex::new(book), path };
        for known in &config.known_addresses {
            store.book.lock().remove(&known.id);
            store.add(known.clone(), source.clone());
        }
        store
    }

    pub(crate) fn len(&self) -> usize {
        self.book.lock().len()
    }

    pub(crate) fn needs_more(&self) -> bool {
        self.book.lock().needs_more()
    }

    pub(crate) fn add(&self, address: NetAddress, source: NetAddress) {
        let shown = address.clone();
        if let Err(error) = self.book.lock().add(address, source, OffsetDateTime::now_utc()) {
            debug!(address = %shown, %error, "address not taken into the book");
        }
    }

    pub(crate) fn add_our_address(&self, address: SocketAddr) {
        self.book.lock().add_our_address(address);
    }

    pub(crate) fn mark_good(&self, id: &PeerId) {
        self.book.lock().mark_good(id, OffsetDateTime::now_utc());
    }

    pub(crate) fn mark_attempt(&self, id: &PeerId) {
        self.book.lock().mark_attempt(id, OffsetDateTime::now_utc());
    }

    pub(crate) fn ban(&self, id: &PeerId, time: Duration) {
        self.book.lock().ban(id, time, OffsetDateTime::now_utc());
    }

    pub(crate) fn is_banned(&self, id: &PeerId) -> bool {
        self.book.lock().is_banned(id, OffsetDateTime::now_utc())
    }

    pub(crate) fn reinstate(&self) {
        self.book.lock().reinstate(OffsetDateTime::now_utc());
    }

    pub(crate) fn pick(&self, new_bias: usize) -> Option<NetAddress> {
        self.book.lock().pick(new_bias)
    }

    pub(crate) fn selection(&self) -> Vec<NetAddress> {
        self.book.lock().selection()
    }

    pub(crate) fn biased_selection(&self, new_bias: usize) -> Vec<NetAddress> {
        self.book.lock().biased_selection(new_bias)
    }

    /// Saves the book, if it has a file.
    pub(crate) async fn save(&self) {
        let Some(path) = self.path.clone() else { return };
        let json = file::to_json(&self.book.lock());
        let saved = tokio::task::spawn_blocking(move || file::save(&json, &path).map_err(|error| (error, path)));
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err((error, path))) => warn!(path = %path.display(), %error, "address book not saved"),
            Err(error) => warn!(%error, "address book not saved"),
        }
    }
}
