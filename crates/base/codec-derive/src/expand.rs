//! Code for one type: the parts shared by both formats, and CBOR of structs with named fields.

mod json;
mod transparent;

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Generics, Ident, Result, Type};

use crate::attrs::{FieldAttrs, StructAttrs};

/// Most fields of one struct; `base_codec` keeps one bit for each.
const MAX_FIELDS: usize = 256;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "`Codec` can be derived for structs only"));
    };
    let attrs = StructAttrs::parse(&input.attrs)?;
    match &data.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            if attrs.array {
                return Err(Error::new_spanned(&input.ident, "a tuple struct is encoded as its field"));
            }
            Ok(transparent::transparent(&input.ident, &input.generics, &fields.unnamed[0].ty, &attrs))
        }
        Fields::Unnamed(_) => Err(Error::new_spanned(&input.ident, "a tuple struct must have exactly one field")),
        fields => {
            if attrs.json_key {
                return Err(Error::new_spanned(&input.ident, "`json_key` is for one-field tuple structs"));
            }
            let fields = fields
                .iter()
                .filter_map(|field| {
                    let ident = field.ident.as_ref()?;
                    Some(FieldAttrs::parse(ident, &field.attrs).map(|attrs| Field {
                        ident: ident.clone(),
                        ty: field.ty.clone(),
                        attrs,
                    }))
                })
                .collect::<Result<Vec<_>>>()?;
            Struct::new(input, attrs, fields)?.expand()
        }
    }
}

/// Generics with each type parameter bounded by `bounds`.
fn bounded(generics: &Generics, bounds: &TokenStream) -> Generics {
    let mut generics = generics.clone();
    let params: Vec<Ident> = generics.type_params().map(|param| param.ident.clone()).collect();
    let clause = generics.make_where_clause();
    for param in params {
        clause.predicates.push(syn::parse_quote!(#param: #bounds));
    }
    generics
}

struct Field {
    ident: Ident,
    ty: Type,
    attrs: FieldAttrs,
}

/// A struct with named fields.
struct Struct<'a> {
    input: &'a DeriveInput,
    attrs: StructAttrs,
    /// The fields that are not skipped, in order of declaration.
    fields: Vec<Field>,
    flat: bool,
}

impl<'a> Struct<'a> {
    fn new(input: &'a DeriveInput, attrs: StructAttrs, mut fields: Vec<Field>) -> Result<Self> {
        fields.retain(|field| !field.attrs.skip);
        let flat = !fields.iter().any(|field| field.attrs.flatten);
        if fields.len() > MAX_FIELDS {
            return Err(Error::new_spanned(&input.ident, format!("more than {MAX_FIELDS} fields")));
        }
        if !flat && attrs.array {
            return Err(Error::new_spanned(&input.ident, "`flatten` in an `array` struct is not supported"));
        }
        if !flat && input.generics.type_params().next().is_some() {
            return Err(Error::new_spanned(&input.ident, "`flatten` in a generic struct is not supported"));
        }
        for pick in [|f: &Field| f.attrs.name.clone(), |f: &Field| f.attrs.json_name.clone()] {
            let mut names = std::collections::BTreeSet::new();
            for field in fields.iter().filter(|field| !field.attrs.flatten) {
                if !names.insert(pick(field)) {
                    return Err(Error::new_spanned(&field.ident, "another field has this name"));
                }
            }
        }
        Ok(Self { input, attrs, fields, flat })
    }

    fn expand(&self) -> Result<TokenStream> {
        let mut out = match (self.attrs.array, self.flat) {
            (true, _) => self.cbor_array(),
            (false, true) => self.cbor_flat(),
            (false, false) => self.cbor_nested(),
        };
        if !self.attrs.cbor_only {
            out.extend(self.json());
        }
        Ok(out)
    }

    /// `impl<…> of for Name<…> where …`, with every type parameter bounded by `bounds`.
    fn header(&self, of: &TokenStream, bounds: &TokenStream) -> TokenStream {
        let generics = bounded(&self.input.generics, bounds);
        let (params, _, clause) = generics.split_for_impl();
        let (_, type_generics, _) = self.input.generics.split_for_impl();
        let name = &self.input.ident;
        quote!(#[automatically_derived] impl #params #of for #name #type_generics #clause)
    }

    fn encode_header(&self) -> TokenStream {
        self.header(&quote!(::base_codec::cbor::Encode), &quote!(::base_codec::cbor::Encode))
    }

    fn decode_header(&self) -> TokenStream {
        self.header(&quote!(::base_codec::cbor::Decode), &quote!(::base_codec::cbor::Decode + ::core::default::Default))
    }

    /// A struct encoded as a list.
    fn cbor_array(&self) -> TokenStream {
        let (encode, decode) = (self.encode_header(), self.decode_header());
        let len = self.fields.len();
        let idents: Vec<_> = self.fields.iter().map(|field| &field.ident).collect();
        let index = 0..len;
        let empty = len == 0;
        quote! {
            #encode {
                fn encode(&self, e: &mut ::base_codec::cbor::Encoder) {
                    e.array(#len);
                    #(::base_codec::cbor::Encode::encode(&self.#idents, e);)*
                }
                fn is_empty(&self) -> bool {
                    #empty
                }
            }
            #decode {
                fn decode(
                    d: &mut ::base_codec::cbor::Decoder<'_>,
                ) -> ::core::result::Result<Self, ::base_codec::cbor::Error> {
                    let mut out = <Self as ::core::default::Default>::default();
                    ::base_codec::cbor::decode_array_struct(d, #len, |i, d| {
                        match i {
                            #(#index => out.#idents = ::base_codec::cbor::Decode::decode(d)?,)*
                            _ => {}
                        }
                        ::core::result::Result::Ok(())
                    })?;
                    ::core::result::Result::Ok(out)
                }
            }
        }
    }

    /// A struct without embedded ones: all is known here.
    fn cbor_flat(&self) -> TokenStream {
        let (encode, decode) = (self.encode_header(), self.decode_header());
        let mut sorted: Vec<&Field> = self.fields.iter().collect();
        sorted.sort_by(|a, b| {
            let (a, b) = (&a.attrs.name, &b.attrs.name);
            (a.len(), a).cmp(&(b.len(), b))
        });
        let fixed = sorted.iter().filter(|field| !field.attrs.omitempty).count();
        let optional: Vec<_> = sorted.iter().filter(|field| field.attrs.omitempty).map(|field| &field.ident).collect();
        let present: Vec<_> = optional.iter().map(|ident| present_flag(ident)).collect();
        let writes = sorted.iter().map(|field| {
            let ident = &field.ident;
            let key = Literal::byte_string(&encoded_key(&field.attrs.name));
            let write = quote! {
                e.raw(#key);
                ::base_codec::cbor::Encode::encode(&self.#ident, e);
            };
            if field.attrs.omitempty {
                let flag = present_flag(ident);
                quote!(if #flag { #write })
            } else {
                write
            }
        });
        let no_fixed = fixed == 0;
        let names = sorted.iter().map(|field| &field.attrs.name);
        let idents = sorted.iter().map(|field| &field.ident);
        let index = 0..sorted.len();
        let fields_trait = self.cbor_fields();
        quote! {
            #encode {
                fn encode(&self, e: &mut ::base_codec::cbor::Encoder) {
                    #(let #present = !::base_codec::cbor::Encode::is_empty(&self.#optional);)*
                    e.map(#fixed #(+ usize::from(#present))*);
                    #(#writes)*
                }
                fn is_empty(&self) -> bool {
                    #no_fixed #(&& ::base_codec::cbor::Encode::is_empty(&self.#optional))*
                }
            }
            #decode {
                fn decode(
                    d: &mut ::base_codec::cbor::Decoder<'_>,
                ) -> ::core::result::Result<Self, ::base_codec::cbor::Error> {
                    let mut out = <Self as ::core::default::Default>::default();
                    ::base_codec::cbor::decode_map_struct(d, &[#(#names),*], |i, d| {
                        match i {
                            #(#index => out.#idents = ::base_codec::cbor::Decode::decode(d)?,)*
                            _ => {}
                        }
                        ::core::result::Result::Ok(())
                    })?;
                    ::core::result::Result::Ok(out)
                }
            }
            #fields_trait
        }
    }

    /// A struct with embedded ones: their names are merged at compile time.
    fn cbor_nested(&self) -> TokenStream {
        let (encode, decode) = (self.encode_header(), self.decode_header());
        let fields_trait = self.cbor_fields();
        let name = &self.input.ident;
        quote! {
            #fields_trait
            const _: () = {
                const NAMES: &[&str] = <#name as ::base_codec::cbor::Fields>::NAMES;
                const ORDER: [usize; NAMES.len()] = ::base_codec::cbor::canonical_order(NAMES);
                const { ::core::assert!(::base_codec::cbor::names_are_distinct(NAMES, &ORDER), "two fields have the same name") };
                const { ::core::assert!(NAMES.len() <= #MAX_FIELDS, "too many fields") };
                #encode {
                    fn encode(&self, e: &mut ::base_codec::cbor::Encoder) {
                        ::base_codec::cbor::encode_fields(self, &ORDER, e);
                    }
                    fn is_empty(&self) -> bool {
                        ::base_codec::cbor::fields_are_empty(self)
                    }
                }
                #decode {
                    fn decode(
                        d: &mut ::base_codec::cbor::Decoder<'_>,
                    ) -> ::core::result::Result<Self, ::base_codec::cbor::Error> {
                        let mut out = <Self as ::core::default::Default>::default();
                        ::base_codec::cbor::decode_map_struct(d, NAMES, |i, d| {
                            ::base_codec::cbor::Fields::decode_field(&mut out, i, d)
                        })?;
                        ::core::result::Result::Ok(out)
                    }
                }
            };
        }
    }

    /// `cbor::Fields`, for this struct to be embedded or to hold embedded ones.
    fn cbor_fields(&self) -> TokenStream {
        let header = self.header(
            &quote!(::base_codec::cbor::Fields),
            &quote!(::base_codec::cbor::Encode + ::base_codec::cbor::Decode + ::core::default::Default),
        );
        let names = self.names(&quote!(::base_codec::cbor::Fields), &quote!(NAMES), |field| &field.attrs.name);
        let of = quote!(::base_codec::cbor::Fields);
        let present = self.dispatch(
            &of,
            &quote!(NAMES),
            |ident, omitempty| {
                if omitempty { quote!(!::base_codec::cbor::Encode::is_empty(&self.#ident)) } else { quote!(true) }
            },
            |ident, i| quote!(::base_codec::cbor::Fields::field_is_present(&self.#ident, #i)),
            &quote!(false),
        );
        let encode = self.dispatch(
            &of,
            &quote!(NAMES),
            |ident, _| quote!(::base_codec::cbor::Encode::encode(&self.#ident, e)),
            |ident, i| quote!(::base_codec::cbor::Fields::encode_field(&self.#ident, #i, e)),
            &quote!({}),
        );
        let decode = self.dispatch(
            &of,
            &quote!(NAMES),
            |ident, _| quote!({ self.#ident = ::base_codec::cbor::Decode::decode(d)?; ::core::result::Result::Ok(()) }),
            |ident, i| quote!(::base_codec::cbor::Fields::decode_field(&mut self.#ident, #i, d)),
            &quote!(::core::result::Result::Ok(())),
        );
        quote! {
            #header {
                const NAMES: &'static [&'static str] = #names;
                #[allow(unused_variables)]
                fn field_is_present(&self, i: usize) -> bool {
                    #present
                }
                #[allow(unused_variables)]
                fn encode_field(&self, i: usize, e: &mut ::base_codec::cbor::Encoder) {
                    #encode
                }
                #[allow(unused_variables)]
                fn decode_field(
                    &mut self,
                    i: usize,
                    d: &mut ::base_codec::cbor::Decoder<'_>,
                ) -> ::core::result::Result<(), ::base_codec::cbor::Error> {
                    #decode
                }
            }
        }
    }

    /// The list of all names, in order of declaration, those of embedded structs (`of::list`) included.
    fn names(&self, of: &TokenStream, list: &TokenStream, name: fn(&Field) -> &String) -> TokenStream {
        if self.flat {
            let names = self.fields.iter().map(name);
            return quote!(&[#(#names),*]);
        }
        let parts: Vec<_> = self
            .fields
            .iter()
            .map(|field| {
                let ty = &field.ty;
                if field.attrs.flatten {
                    quote!(<#ty as #of>::#list)
                } else {
                    let name = name(field);
                    quote!(&[#name])
                }
            })
            .collect();
        quote!({
            const PARTS: &[&[&str]] = &[#(#parts),*];
            const LEN: usize = {
                let (mut n, mut i) = (0, 0);
                while i < PARTS.len() {
                    n += PARTS[i].len();
                    i += 1;
                }
                n
            };
            &::base_codec::cbor::concat_names::<LEN>(PARTS)
        })
    }

    /// Code that acts on field `i`: `own` for a field of this struct, `embedded` for one of an embedded struct with its
    /// index there.
    fn dispatch(
        &self,
        of: &TokenStream,
        list: &TokenStream,
        own: impl Fn(&Ident, bool) -> TokenStream,
        embedded: impl Fn(&Ident, TokenStream) -> TokenStream,
        otherwise: &TokenStream,
    ) -> TokenStream {
        if self.flat {
            let index = 0..self.fields.len();
            let arms = self.fields.iter().map(|field| own(&field.ident, field.attrs.omitempty));
            return quote!(match i { #(#index => #arms,)* _ => #otherwise });
        }
        let steps = self.fields.iter().map(|field| {
            if field.attrs.flatten {
                let ty = &field.ty;
                let act = embedded(&field.ident, quote!(i));
                quote! {
                    let count = <#ty as #of>::#list.len();
                    if i < count {
                        return #act;
                    }
                    let i = i - count;
                }
            } else {
                let act = own(&field.ident, field.attrs.omitempty);
                quote! {
                    if i == 0 {
                        return #act;
                    }
                    let i = i - 1;
                }
            }
        });
        quote!(#(#steps)* #otherwise)
    }
}

/// The variable that says whether an `omitempty` field is written.
fn present_flag(ident: &Ident) -> Ident {
    format_ident!("present_{}", ident)
}

/// A name as a CBOR text item.
fn encoded_key(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    match name.len() {
        len @ 0..=23 => out.push(0x60 | len as u8),
        len @ 24..=255 => out.extend([0x78, len as u8]),
        len => {
            out.push(0x79);
            out.extend((len.min(0xffff) as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(name.as_bytes());
    out
}
