//! Denies everybody to open a file for as long as it runs: `lsm_deny PATH` (Linux 5.7, with `bpf` among the security modules).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bpfkit_asm::bpf;
use bpfkit_loader::{Attach, Error, Link, Maps, ProgSpec, Target};

/// Lets no one open the file of this inode number on this device, as the kernel numbers it.
pub fn deny(target: &Target, inode: u64, device: u32) -> Result<Link, Error> {
    let code = bpf! {
        r1 = *(u64 *)(r1 + ctx.arg1);                   // file_open(struct file *file)
        r1 = *(u64 *)(r1 + file.f_inode);
        r2 = *(u64 *)(r1 + inode.i_ino);
        r3 = {inode} ll;
        r0 = 0;
        if r2 != r3 goto out;
        r1 = *(u64 *)(r1 + inode.i_sb);
        r2 = *(u32 *)(r1 + super_block.s_dev);
        w3 = {device};
        if r2 != r3 goto out;
        r0 = -1;                                        // -EPERM
    out:
        exit;
    };
    let attach = Attach::Lsm { hook: "file_open".to_owned() };
    ProgSpec::new("deny", attach, code)?.load(target, &Maps::new())?.attach(target)
}

/// A file's inode number, and its device as the kernel numbers it: 12 bits of major, 20 of minor.
pub fn file(path: &Path) -> std::io::Result<(u64, u32)> {
    let data = std::fs::metadata(path)?;
    let (major, minor) = (data.dev() >> 8 & 0xfff, data.dev() & 0xff | data.dev() >> 12 & 0xf_ff00);
    Ok((data.ino(), u32::try_from(major << 20 | minor).unwrap_or_default()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: lsm_deny PATH")?;
    let (inode, device) = file(Path::new(&path))?;
    let _link = deny(&Target::running()?, inode, device)?;
    println!("nobody opens {} until Enter is pressed", Path::new(&path).display());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
