//! `oasis addressbook`: addresses with names.

use clap::Subcommand;

use crate::config::{Entry, Store};
use crate::error::Result;
use crate::out::{out, outln};
use crate::wallet::check_free;
use crate::wallet::keys::ethereum_text;
use crate::{address, table};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add an address to address book
    Add {
        /// Its name.
        name: String,
        /// The address.
        address: String,
    },
    /// List addresses stored in address book
    #[command(visible_alias = "ls")]
    List,
    /// Remove an address from address book
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name.
        name: String,
    },
    /// Rename address
    #[command(visible_alias = "mv")]
    Rename {
        /// Its name.
        old: String,
        /// Its new name.
        new: String,
    },
    /// Show address information
    Show {
        /// Its name.
        name: String,
    },
}

fn missing(name: &str) -> String {
    format!("address named '{name}' does not exist in the address book")
}

pub(super) fn run(store: &mut Store, command: Command) -> Result<()> {
    match command {
        Command::Add { name, address } => {
            check_free(store, &name)?;
            let found = address::parse(&address).ok_or_else(|| {
                format!("malformed address '{address}': expected oasis1… or 0x… with 40 hexadecimal digits")
            })?;
            let entry = Entry {
                address: found.address.to_string(),
                eth_address: found.ethereum.map(|address| ethereum_text(&address)).unwrap_or_default(),
                ..Entry::default()
            };
            store.config.address_book.insert(name, entry);
            store.save()
        }
        Command::List => {
            let shown = |entry: &Entry| {
                let ethereum = Some(&entry.eth_address).filter(|address| !address.is_empty());
                ethereum.unwrap_or(&entry.address).clone()
            };
            let book = store.config.address_book.iter();
            let rows: Vec<_> = book.map(|(name, entry)| vec![name.clone(), shown(entry)]).collect();
            out!("{}", table::render(&["Name", "Address"], &rows));
            Ok(())
        }
        Command::Remove { name } => {
            store.config.address_book.remove(&name).ok_or_else(|| missing(&name))?;
            store.save()
        }
        Command::Rename { old, new } => {
            if !store.config.address_book.contains_key(&old) {
                return Err(missing(&old).into());
            }
            check_free(store, &new)?;
            if let Some(entry) = store.config.address_book.remove(&old) {
                store.config.address_book.insert(new, entry);
            }
            store.save()
        }
        Command::Show { name } => {
            let entry = store.config.address_book.get(&name).ok_or_else(|| missing(&name))?;
            outln!("Name:             {name}");
            if !entry.eth_address.is_empty() {
                outln!("Ethereum address: {}", entry.eth_address);
            }
            outln!("Native address:   {}", entry.address);
            Ok(())
        }
    }
}
