//! Prints the types of a file as a C header.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: header FILE")?;
    let btf = bpfkit_btf::Btf::from_file(file)?;
    let mut header = bpfkit_btf::Header::new(&btf);
    while let Some(piece) = header.next_piece() {
        print!("{piece}");
    }
    Ok(())
}
