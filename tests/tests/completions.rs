//! The completions that a package brings along, each in its shell.

use std::path::Path;
use std::process::{Command, Output};

use bpfkit::cli::Cli;
use clap_complete::Shell;

/// Lines as one leaves them to press Tab, and what there is to choose from then, all or some of it.
const LINES: [(&str, &[&str]); 6] = [
    ("bpfkit tcpc", &["tcpconnect"]),
    ("bpfkit btf m", &["min"]),
    ("bpfkit dump --format ", &["text", "json", "c", "raw", "obj", "dot", "html"]),
    ("bpfkit tcpconnect --dur", &["--duration"]),
    ("bpfkit dump tcpconnect --verif", &["--verifier"]),
    ("bpfkit asm --he", &["--help", "--hex"]),
];

/// The choices that a shell has for each line, if there is such a shell. `ask` gets the file with the completions and the lines.
fn choices(shell: Shell, ask: impl FnOnce(&Path, &[&str]) -> Command) -> Option<Vec<Vec<String>>> {
    let name = shell.to_string();
    if !Command::new(&name).args(["-c", "exit 0"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no {name} on this machine");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = clap_complete::generate_to(shell, &mut Cli::whole(), "bpfkit", directory.path()).unwrap();
    let lines = LINES.map(|(line, _)| line);
    let Output { status, stdout, stderr } = ask(&file, &lines).env("TERM", "dumb").output().unwrap();
    let said = String::from_utf8_lossy(&stdout);
    assert!(status.success() && stderr.is_empty(), "{name}: {said}{}", String::from_utf8_lossy(&stderr));
    // What is chosen from stands behind the line, each on a line of its own behind `hit:`; a terminal may have said more there.
    let mut found = vec![Vec::new(); lines.len()];
    let mut at = None;
    for said in said.lines() {
        if let Some(line) = said.strip_prefix("line:") {
            at = lines.iter().position(|known| *known == line.trim_end_matches('\r'));
        } else if let (Some(at), Some((_, hit))) = (at, said.split_once("hit:")) {
            let hit = hit.trim_end().to_owned();
            if !hit.is_empty() && !found[at].contains(&hit) {
                found[at].push(hit);
            }
        }
    }
    Some(found)
}

fn check(found: Option<Vec<Vec<String>>>) {
    for ((line, wanted), mut found) in LINES.into_iter().zip(found.unwrap_or_default()) {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted, "{line:?}");
    }
}

#[test]
fn bash_completes_commands_options_and_their_values() {
    const SCRIPT: &str = r#"
        source "$1"; shift
        for line; do
            read -ra COMP_WORDS <<< "$line"
            [[ $line == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line} COMPREPLY=()
            _bpfkit bpfkit "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "line:$line"; printf 'hit:%s\n' "${COMPREPLY[@]}"
        done"#;
    check(choices(Shell::Bash, |file, lines| {
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", SCRIPT, "-"]).arg(file).args(lines);
        command
    }));
}

#[test]
fn fish_completes_commands_options_and_their_values() {
    const SCRIPT: &str = r#"
        source $argv[1]
        for line in $argv[2..]
            echo line:$line
            for hit in (complete -C $line | string split -f 1 \t)
                echo hit:$hit
            end
        end"#;
    check(choices(Shell::Fish, |file, lines| {
        let mut command = Command::new("fish");
        command.args(["--no-config", "-c", SCRIPT]).arg(file).args(lines);
        command
    }));
}

/// It has no question of its own for what it would offer: so a shell runs in a terminal, and tells what it is given to choose from.
#[test]
fn zsh_completes_commands_options_and_their_values() {
    const SCRIPT: &str = r#"
        zmodload zsh/zpty
        zpty shell 'TERM=dumb zsh -f -i'
        zpty -w shell "PS1= fpath=(${(q)1:h} \$fpath)"
        zpty -w shell 'autoload -Uz compinit && compinit -D -u; unset zle_bracketed_paste'
        zpty -w shell 'compadd() { local -a hits; builtin compadd -O hits "$@"; print -rl -- "hit:"$^hits; builtin compadd "$@" }'
        zpty -w shell 'ended() { print -r -- "en""ded"; comppostfuncs=(ended) }; comppostfuncs=(ended); print "rea""dy"'
        zpty -r shell before '*ready*'
        shift
        for line; do
            zpty -w -n shell "$line"$'\t'
            zpty -r shell said '*ended*'
            print -r -- "line:$line"
            print -r -- "$said"
            zpty -w -n shell $'\C-u'
        done
        zpty -d shell"#;
    check(choices(Shell::Zsh, |file, lines| {
        // What goes wrong in there is waited for in vain.
        let mut command = Command::new("timeout");
        command.args(["60", "zsh", "-f", "-c", SCRIPT, "-"]).arg(file).args(lines);
        command
    }));
}
