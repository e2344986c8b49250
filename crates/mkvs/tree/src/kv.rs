//! What services see of any state: reading and writing byte strings.

use std::ops::ControlFlow;

use crate::error::TreeError;

/// Gets key and value of each pair of an iteration and says whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reading an ordered map of byte strings.
pub trait KvRead {
    /// The value of a key.
    ///
    /// # Errors
    /// If the store fails; an absent key is no error.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError>;

    /// Calls `visit` with every pair from `from` on, in key order, until it says stop.
    ///
    /// # Errors
    /// If the store fails.
    fn iterate(&self, from: &[u8], visit: Visit<'_>) -> Result<(), TreeError>;
}

/// Writing an ordered map of byte strings.
pub trait KvWrite: KvRead {
    /// Sets a key.
    ///
    /// # Errors
    /// If the key or value does not fit, or the store fails.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError>;

    /// Removes a key; that it is absent is no error.
    ///
    /// # Errors
    /// If the store fails.
    fn remove(&mut self, key: &[u8]) -> Result<(), TreeError>;
}

macro_rules! forward_read {
    ($($t:ty),*) => {$(
        impl<T: KvRead + ?Sized> KvRead for $t {
            fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
                (**self).get(key)
            }
            fn iterate(
                &self,
                from: &[u8],
                visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
            ) -> Result<(), TreeError> {
                (**self).iterate(from, visit)
            }
        }
    )*};
}

macro_rules! forward_write {
    ($($t:ty),*) => {$(
        impl<T: KvWrite + ?Sized> KvWrite for $t {
            fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
                (**self).insert(key, value)
            }
            fn remove(&mut self, key: &[u8]) -> Result<(), TreeError> {
                (**self).remove(key)
            }
        }
    )*};
}

forward_read!(&T, &mut T, Box<T>, std::sync::Arc<T>);
forward_write!(&mut T, Box<T>);

/// Calls `visit` with every pair whose key starts with `prefix`, in key order, until it says stop.
///
/// # Errors
/// If the store fails.
pub fn scan_prefix(store: &(impl KvRead + ?Sized), prefix: &[u8], visit: Visit<'_>) -> Result<(), TreeError> {
    store.iterate(prefix, &mut |k, v| if k.starts_with(prefix) { visit(k, v) } else { ControlFlow::Break(()) })
}

/// The smallest key greater than every key with this prefix; `None` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}
