//! Code for one-field tuple structs.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Generics, Ident, Member, Type};

use super::bounded;
use crate::attrs::StructAttrs;

/// A one-field tuple struct: everything is that of the field.
pub(super) fn transparent(name: &Ident, generics: &Generics, ty: &Type, attrs: &StructAttrs) -> TokenStream {
    let member = Member::from(0);
    let (_, type_generics, _) = generics.split_for_impl();
    let header = |bounds: TokenStream, of: TokenStream| {
        let bounded = bounded(generics, &bounds);
        let (params, _, clause) = bounded.split_for_impl();
        quote!(impl #params #of for #name #type_generics #clause)
    };
    let encode = header(quote!(::base_codec::cbor::Encode), quote!(::base_codec::cbor::Encode));
    let decode = header(quote!(::base_codec::cbor::Decode), quote!(::base_codec::cbor::Decode));
    let mut out = quote! {
        #[automatically_derived]
        #encode {
            fn encode(&self, e: &mut ::base_codec::cbor::Encoder) {
                ::base_codec::cbor::Encode::encode(&self.#member, e);
            }
            fn is_empty(&self) -> bool {
                ::base_codec::cbor::Encode::is_empty(&self.#member)
            }
            fn is_empty_in_option(&self) -> bool {
                ::base_codec::cbor::Encode::is_empty_in_option(&self.#member)
            }
        }
        #[automatically_derived]
        #decode {
            const SCALAR: bool = <#ty as ::base_codec::cbor::Decode>::SCALAR;
            fn decode(
                d: &mut ::base_codec::cbor::Decoder<'_>,
            ) -> ::core::result::Result<Self, ::base_codec::cbor::Error> {
                ::base_codec::cbor::Decode::decode(d).map(Self)
            }
        }
    };
    if !attrs.cbor_only {
        let to_json = header(quote!(::base_codec::json::ToJson), quote!(::base_codec::json::ToJson));
        let from_json = header(quote!(::base_codec::json::FromJson), quote!(::base_codec::json::FromJson));
        out.extend(quote! {
            #[automatically_derived]
            #to_json {
                fn to_json(&self) -> ::base_codec::__private::Value {
                    ::base_codec::json::ToJson::to_json(&self.#member)
                }
                fn is_empty_json(&self) -> bool {
                    ::base_codec::json::ToJson::is_empty_json(&self.#member)
                }
                fn is_empty_json_in_option(&self) -> bool {
                    ::base_codec::json::ToJson::is_empty_json_in_option(&self.#member)
                }
            }
            #[automatically_derived]
            #from_json {
                fn from_json(
                    v: &::base_codec::__private::Value,
                    cx: &mut ::base_codec::json::Context,
                ) -> ::core::result::Result<Self, ::base_codec::json::Error> {
                    ::base_codec::json::FromJson::from_json(v, cx).map(Self)
                }
            }
        });
    }
    if attrs.json_key {
        let json_key = header(quote!(::base_codec::json::JsonKey), quote!(::base_codec::json::JsonKey));
        out.extend(quote! {
            #[automatically_derived]
            #json_key {
                fn to_key(&self) -> ::std::string::String {
                    ::base_codec::json::JsonKey::to_key(&self.#member)
                }
                fn from_key(s: &str) -> ::core::result::Result<Self, ::std::string::String> {
                    ::base_codec::json::JsonKey::from_key(s).map(Self)
                }
            }
        });
    }
    out
}
