//! The `#[codec(…)]` attributes.

use syn::ext::IdentExt;
use syn::{Attribute, Ident, LitStr, Result};

/// Attributes of a struct.
#[derive(Default)]
pub(crate) struct StructAttrs {
    pub(crate) array: bool,
    pub(crate) cbor_only: bool,
    pub(crate) json_key: bool,
}

impl StructAttrs {
    pub(crate) fn parse(attrs: &[Attribute]) -> Result<Self> {
        let mut out = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("codec")) {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("array") {
                    out.array = true;
                } else if meta.path.is_ident("cbor_only") {
                    out.cbor_only = true;
                } else if meta.path.is_ident("json_key") {
                    out.json_key = true;
                } else {
                    return Err(meta.error("expected `array`, `cbor_only` or `json_key`"));
                }
                Ok(())
            })?;
        }
        Ok(out)
    }
}

/// Attributes of a field.
pub(crate) struct FieldAttrs {
    pub(crate) name: String,
    pub(crate) json_name: String,
    pub(crate) omitempty: bool,
    pub(crate) flatten: bool,
    pub(crate) skip: bool,
}

impl FieldAttrs {
    pub(crate) fn parse(ident: &Ident, attrs: &[Attribute]) -> Result<Self> {
        let (mut rename, mut json_rename) = (None, None);
        let (mut omitempty, mut flatten, mut skip) = (false, false, false);
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("codec")) {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("rename") {
                    rename = Some(name(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("json_rename") {
                    json_rename = Some(name(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("omitempty") {
                    omitempty = true;
                } else if meta.path.is_ident("flatten") {
                    flatten = true;
                } else if meta.path.is_ident("skip") {
                    skip = true;
                } else {
                    return Err(meta.error("expected `rename`, `json_rename`, `omitempty`, `flatten` or `skip`"));
                }
                Ok(())
            })?;
        }
        let named = rename.is_some() || json_rename.is_some() || omitempty;
        if (flatten && (named || skip)) || (skip && named) {
            return Err(syn::Error::new_spanned(ident, "`flatten` and `skip` exclude the other attributes"));
        }
        let name = rename.unwrap_or_else(|| ident.unraw().to_string());
        if !name.is_ascii() {
            return Err(syn::Error::new_spanned(ident, "names must be ascii: case is ignored on no other letters"));
        }
        let json_name = json_rename.unwrap_or_else(|| name.clone());
        Ok(Self { name, json_name, omitempty, flatten, skip })
    }
}

/// A name that both formats can carry.
fn name(lit: &LitStr) -> Result<String> {
    let name = lit.value();
    if name.is_ascii() && !name.is_empty() {
        Ok(name)
    } else {
        Err(syn::Error::new_spanned(lit, "names must be ascii and not empty"))
    }
}
