//! The first door: is this a shared library for this machine, complete, and a plugin at all?
//!
//! Reads bytes only. A truncated library would end the process with SIGBUS, and any library runs code of its own the
//! moment it is loaded, so nothing is loaded before it has passed here.

use etl_plugin_api::abi::ROOT_SYMBOL;
use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

use super::Refused;

const REBUILD: &str =
    "build the plugin again with `cargo build --release` and copy the finished file";
/// What helps against a file that is nothing of this kind.
pub(crate) const REMOVE: &str = "move the file out of the plugins folder";

/// Looks at a file's bytes.
pub fn check(bytes: &[u8]) -> Result<(), Refused> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err(not_elf(bytes));
    }
    let broken = || Refused::new("a damaged or incomplete shared library", REBUILD);
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(|_| broken())?;
    let header = file.elf_header();
    let endian = file.endian();
    let length = bytes.len() as u64;
    if header.e_machine(endian) != host_machine() {
        return Err(Refused::new(
            format!(
                "a library for another kind of machine ({})",
                machine_name(header.e_machine(endian))
            ),
            format!("build the plugin for {}", std::env::consts::ARCH),
        ));
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err(Refused::new(
            "an ELF file, but no shared library",
            "a plugin is built with `crate-type = [\"cdylib\"]`",
        ));
    }
    // Linkers put the section headers last, so a cut file lacks them.
    let sections = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
    let complete = header
        .e_shoff(endian)
        .checked_add(sections)
        .is_some_and(|end| end <= length);
    let segments = header
        .program_headers(endian, bytes)
        .map_err(|_| broken())?;
    let inside = segments.iter().all(|segment| {
        segment
            .p_offset(endian)
            .checked_add(segment.p_filesz(endian))
            .is_some_and(|end| end <= length)
    });
    if !complete || !inside {
        return Err(Refused::new(
            "an incomplete shared library: the file is shorter than it says",
            REBUILD,
        ));
    }
    let symbol = ROOT_SYMBOL.trim_end_matches('\0').as_bytes();
    let exported = file
        .dynamic_symbols()
        .any(|known| known.is_definition() && known.name_bytes() == Ok(symbol));
    if exported {
        Ok(())
    } else {
        Err(Refused::new(
            "a shared library, but no plugin: it exports no pipelines",
            "call `etl_plugin_api::export_pipelines!` in the crate, or move the file out of the plugins folder",
        ))
    }
}

fn not_elf(bytes: &[u8]) -> Refused {
    let what = match bytes {
        [] => "an empty file",
        [b'M', b'Z', ..] => "a Windows library",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS library",
        [0x1f, 0x8b, ..] | [b'P', b'K', ..] => "an archive",
        _ if bytes
            .iter()
            .take(512)
            .all(|byte| *byte >= 0x20 || byte.is_ascii_whitespace()) =>
        {
            "a text file"
        }
        _ => "not a shared library",
    };
    Refused::new(what, REMOVE)
}

fn host_machine() -> elf::Machine {
    if cfg!(target_arch = "aarch64") {
        elf::EM_AARCH64
    } else {
        elf::EM_X86_64
    }
}

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86_64".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        elf::EM_386 => "x86".to_owned(),
        elf::EM_ARM => "arm".to_owned(),
        elf::EM_RISCV => "riscv".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(bytes: &[u8]) -> String {
        check(bytes).unwrap_err().reason
    }

    #[test]
    fn files_that_are_no_libraries_are_named_for_what_they_are() {
        assert_eq!(reason(b""), "an empty file");
        assert_eq!(reason(b"hello\n"), "a text file");
        assert_eq!(reason(b"MZ\x90\0"), "a Windows library");
        assert_eq!(reason(b"PK\x03\x04"), "an archive");
        assert!(reason(b"\x7fELF\x02\x01\x01").contains("incomplete"));
    }

    #[test]
    fn this_test_itself_is_no_plugin() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(reason(&bytes).contains("no plugin"));
        assert!(reason(&bytes[..bytes.len() / 2]).contains("incomplete"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..4096), elf: bool) {
            if elf && bytes.len() > 4 {
                bytes[..4].copy_from_slice(b"\x7fELF");
            }
            let _ = check(&bytes);
        }
    }
}
