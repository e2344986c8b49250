//! The derive macro behind `base_codec::Codec`: CBOR and JSON of structs by the reference's field rules.
//!
//! Layer: L0, at compile time. Reference counterpart: struct tags as `fxamacker/cbor` and `encoding/json` read them.
//!
//! What it does not do: enums (the network has none; see `base_codec::int_type!`) and embedded pointers.
//!
//! Main item: [`macro@Codec`]. The attributes are parsed in `attrs`, code is made in `expand`.
//!
//! Invariants: names are ASCII and distinct, fields are written in canonical order; both are decided at compile time.
//!
//! Tested through `base-codec`, which compares the output with bytes recorded from the reference.

mod attrs;
mod expand;

/// Derives `cbor::Encode`, `cbor::Decode`, `json::ToJson` and `json::FromJson` of `base_codec`.
///
/// For structs with named fields (which must implement `Default`), and one-field tuple structs, which are encoded as
/// their field. Attributes of a field:
///
/// * `#[codec(rename = "name")]`: name in both formats; default: the field's identifier (without `r#`);
/// * `#[codec(json_rename = "name")]`: name in JSON where it differs;
/// * `#[codec(omitempty)]`: left out when empty, by each format's own notion of empty;
/// * `#[codec(flatten)]`: an embedded struct, whose fields are those of this one;
/// * `#[codec(skip)]`: in neither format; the default value when read.
///
/// Attributes of a struct:
///
/// * `#[codec(array)]`: in CBOR a list of all fields (`toarray`); `omitempty` then concerns JSON only;
/// * `#[codec(cbor_only)]`: no JSON;
/// * `#[codec(json_key)]`: on a one-field tuple struct: also `json::JsonKey`, as the field.
#[proc_macro_derive(Codec, attributes(codec))]
pub fn derive_codec(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    expand::expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}
