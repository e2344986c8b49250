//! `oasis-node completion SHELL`: scripts for shells.

use std::process::ExitCode;

use base_service::out;
use clap::{CommandFactory as _, Subcommand};

/// `completion`.
#[derive(clap::Args)]
pub(crate) struct CompletionArgs {
    #[command(subcommand)]
    shell: Shell,
}

/// Shells.
#[derive(Subcommand)]
enum Shell {
    /// Generate the autocompletion script for bash.
    Bash,
    /// Generate the autocompletion script for zsh.
    Zsh,
    /// Generate the autocompletion script for fish.
    Fish,
    /// Generate the autocompletion script for powershell.
    Powershell,
}

/// All commands with their words and options: `a b` and `--x`.
fn collect(command: &clap::Command, path: &str, out: &mut Vec<(String, Vec<String>)>) {
    let shown = |command: &&clap::Command| !command.is_hide_set();
    let mut words: Vec<String> =
        command.get_subcommands().filter(shown).map(|inner| inner.get_name().to_owned()).collect();
    let options = command.get_arguments().filter(|arg| !arg.is_hide_set());
    words.extend(options.filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))));
    out.push((path.to_owned(), words));
    for inner in command.get_subcommands().filter(shown) {
        let name = inner.get_name();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
        collect(inner, &path, out);
    }
}

pub(crate) fn run(args: &CompletionArgs) -> ExitCode {
    let mut command = crate::Cli::command();
    command.build();
    let mut all = Vec::new();
    collect(&command, "", &mut all);
    out!("{}", script(&args.shell, &all));
    ExitCode::SUCCESS
}

fn script(shell: &Shell, all: &[(String, Vec<String>)]) -> String {
    let cases = |indent: &str| -> String {
        all.iter().map(|(path, words)| format!("{indent}'{path}') words='{}' ;;\n", words.join(" "))).collect()
    };
    match shell {
        Shell::Bash => format!(
            "# bash completion for oasis-node\n_oasis_node() {{\n    local path='' word words=''\n    for word in \
             \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        case \"$word\" in -*) ;; *) path=\"${{path:+$path }}$word\" \
             ;; esac\n    done\n    case \"$path\" in\n{}    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \
             \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\ncomplete -o default -F _oasis_node oasis-node\n",
            cases("        ")
        ),
        Shell::Zsh => format!(
            "#compdef oasis-node\n_oasis_node() {{\n    local path_='' word words=''\n    for word in \
             \"${{(@)words[2,CURRENT-1]}}\"; do\n        case \"$word\" in -*) ;; *) path_=\"${{path_:+$path_ }}$word\" ;; \
             esac\n    done\n    case \"$path_\" in\n{}    esac\n    compadd -- ${{=words}}\n}}\ncompdef _oasis_node \
             oasis-node\n",
            cases("        ")
        ),
        Shell::Fish => {
            let line = |(path, words): &(String, Vec<String>)| -> String {
                let seen: String =
                    path.split_whitespace().map(|word| format!("__fish_seen_subcommand_from {word}; and ")).collect();
                let seen = if seen.is_empty() { "__fish_use_subcommand; and ".to_owned() } else { seen };
                format!("complete -c oasis-node -n '{}true' -a '{}'\n", seen, words.join(" "))
            };
            format!("# fish completion for oasis-node\n{}", all.iter().map(line).collect::<String>())
        }
        Shell::Powershell => {
            let line = |(path, words): &(String, Vec<String>)| {
                let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
                format!("        '{path}' {{ @({}) }}\n", words.join(", "))
            };
            format!(
                "# powershell completion for oasis-node\nRegister-ArgumentCompleter -Native -CommandName 'oasis-node' \
                 -ScriptBlock {{\n    param($wordToComplete, $commandAst, $cursorPosition)\n    $path = \
                 ($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ \"$_\" }} | Where-Object {{ $_ \
                 -notlike '-*' -and $_ -ne $wordToComplete }}) -join ' '\n    $words = switch ($path) {{\n{}    }}\n    \
                 $words | Where-Object {{ $_ -like \"$wordToComplete*\" }}\n}}\n",
                all.iter().map(line).collect::<String>()
            )
        }
    }
}
