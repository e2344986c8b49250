//! JSON of structs with named fields.

use proc_macro2::TokenStream;
use quote::quote;

use super::Struct;

impl Struct<'_> {
    /// `json::Fields`, `json::ToJson` and `json::FromJson`.
    pub(super) fn json(&self) -> TokenStream {
        let of = quote!(::base_codec::json::Fields);
        let both = quote!(::base_codec::json::ToJson + ::base_codec::json::FromJson + ::core::default::Default);
        let fields = self.header(&of, &both);
        let to_json = self.header(&quote!(::base_codec::json::ToJson), &both);
        let from_json = self.header(&quote!(::base_codec::json::FromJson), &both);
        let names = self.names(&of, &quote!(JSON_NAMES), |field| &field.attrs.json_name);
        let writes = self.fields.iter().map(|field| {
            let (ident, name) = (&field.ident, &field.attrs.json_name);
            let write = quote! {
                out.insert(::std::string::String::from(#name), ::base_codec::json::ToJson::to_json(&self.#ident));
            };
            if field.attrs.flatten {
                quote!(::base_codec::json::Fields::write_fields(&self.#ident, out);)
            } else if field.attrs.omitempty {
                quote!(if !::base_codec::json::ToJson::is_empty_json(&self.#ident) { #write })
            } else {
                write
            }
        });
        let read = self.dispatch(
            &of,
            &quote!(JSON_NAMES),
            |ident, _| {
                quote!({
                    self.#ident = ::base_codec::json::FromJson::from_json(v, cx)?;
                    ::core::result::Result::Ok(())
                })
            },
            |ident, i| quote!(::base_codec::json::Fields::read_field(&mut self.#ident, #i, v, cx)),
            &quote!(::core::result::Result::Ok(())),
        );
        quote! {
            #fields {
                const JSON_NAMES: &'static [&'static str] = #names;
                #[allow(unused_variables)]
                fn write_fields(
                    &self,
                    out: &mut ::base_codec::__private::Map<::std::string::String, ::base_codec::__private::Value>,
                ) {
                    #(#writes)*
                }
                #[allow(unused_variables)]
                fn read_field(
                    &mut self,
                    i: usize,
                    v: &::base_codec::__private::Value,
                    cx: &mut ::base_codec::json::Context,
                ) -> ::core::result::Result<(), ::base_codec::json::Error> {
                    #read
                }
            }
            #to_json {
                fn to_json(&self) -> ::base_codec::__private::Value {
                    let mut out = ::base_codec::__private::Map::new();
                    ::base_codec::json::Fields::write_fields(self, &mut out);
                    ::base_codec::__private::Value::Object(out)
                }
            }
            #from_json {
                fn from_json(
                    v: &::base_codec::__private::Value,
                    cx: &mut ::base_codec::json::Context,
                ) -> ::core::result::Result<Self, ::base_codec::json::Error> {
                    let mut out = <Self as ::core::default::Default>::default();
                    ::base_codec::json::decode_object(
                        v,
                        cx,
                        <Self as ::base_codec::json::Fields>::JSON_NAMES,
                        |i, v, cx| ::base_codec::json::Fields::read_field(&mut out, i, v, cx),
                    )?;
                    ::core::result::Result::Ok(out)
                }
            }
        }
    }
}
