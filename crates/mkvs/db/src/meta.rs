//! The database's own record: format, namespace, range of versions, what is in progress.

use base_prims::Namespace;

use crate::error::DbError;

/// Starts the record so that no other store is taken for a node database.
const MAGIC: [u8; 8] = *b"mkvs-db\0";

/// The format written here.
pub(crate) const FORMAT: u32 = 1;

/// What the database knows of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    pub(crate) namespace: Namespace,
    /// Earliest and latest finalized versions.
    pub(crate) range: Option<(u64, u64)>,
    /// Version of a restore in progress.
    pub(crate) multipart: Option<u64>,
    /// Version whose pruning has begun.
    pub(crate) pruning: Option<u64>,
}

impl Meta {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self { namespace, range: None, multipart: None, pruning: None }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(self.namespace.as_bytes());
        let (earliest, latest) = self.range.unzip();
        for number in [earliest, latest, self.multipart, self.pruning] {
            out.push(u8::from(number.is_some()));
            out.extend_from_slice(&number.unwrap_or(0).to_be_bytes());
        }
        out
    }

    /// Reads the record. Format and namespace are checked before anything else of it is looked at.
    pub(crate) fn decode(bytes: &[u8], expected: Namespace) -> Result<Self, DbError> {
        let corrupt = DbError::Corrupt { what: "database record" };
        let Some(rest) = bytes.strip_prefix(&MAGIC) else {
            return Err(DbError::NotADatabase("its first record has another form"));
        };
        let Some((format, rest)) = rest.split_first_chunk() else { return Err(corrupt) };
        let found = u32::from_be_bytes(*format);
        if found > FORMAT {
            return Err(DbError::NewerFormat { found, known: FORMAT });
        }
        if found == 0 {
            return Err(DbError::NotADatabase("its format number is zero"));
        }
        let Some((namespace, mut rest)) = rest.split_first_chunk() else { return Err(corrupt) };
        let found = Namespace::from_bytes_unchecked(*namespace);
        if found != expected {
            return Err(DbError::OtherNamespace { expected, found });
        }
        let mut number = || -> Result<Option<u64>, DbError> {
            let Some(([flag, n @ ..], tail)) = rest.split_first_chunk::<9>() else {
                return Err(DbError::Corrupt { what: "database record" });
            };
            rest = tail;
            Ok((*flag != 0).then(|| u64::from_be_bytes(*n)))
        };
        let range = number()?.zip(number()?);
        let (multipart, pruning) = (number()?, number()?);
        if !rest.is_empty() {
            return Err(corrupt);
        }
        Ok(Self { namespace: found, range, multipart, pruning })
    }
}
