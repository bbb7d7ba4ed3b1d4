//! Cuts a blob of BTF down to some types: `cargo run -p bpfkit-btf --example cut -- IN OUT TYPE..`
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, roots @ ..] = arguments.as_slice() else {
        eprintln!("usage: cut IN OUT TYPE..");
        return ExitCode::from(2);
    };
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let cut = bpfkit_btf::Btf::from_file(input).and_then(|btf| bpfkit_btf::cut(&btf, &roots));
    match cut.map(|bytes| std::fs::write(output, bytes)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("cannot write {output}: {error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("{error}{cause}");
            ExitCode::FAILURE
        }
    }
}
