//! Words of C, and names that could be taken for one.

/// What cannot be a name: the keywords of C11 and C23 and GNU's, a type that compilers know, and macros that they define. `bool`,
/// `true` and `false` are missing: they are names before C23, and kernels define them.
const RESERVED: &[&[u8]] = &[
    b"_Alignas",
    b"_Alignof",
    b"_Atomic",
    b"_BitInt",
    b"_Bool",
    b"_Complex",
    b"_Decimal128",
    b"_Decimal32",
    b"_Decimal64",
    b"_Float128",
    b"_Float16",
    b"_Float32",
    b"_Float32x",
    b"_Float64",
    b"_Float64x",
    b"_Generic",
    b"_Imaginary",
    b"_Noreturn",
    b"_Static_assert",
    b"_Thread_local",
    b"__attribute__",
    b"__builtin_va_list",
    b"__float128",
    b"__int128",
    b"__thread",
    b"alignas",
    b"alignof",
    b"asm",
    b"auto",
    b"break",
    b"case",
    b"char",
    b"const",
    b"constexpr",
    b"continue",
    b"default",
    b"do",
    b"double",
    b"else",
    b"enum",
    b"extern",
    b"float",
    b"for",
    b"goto",
    b"i386",
    b"if",
    b"inline",
    b"int",
    b"linux",
    b"long",
    b"nullptr",
    b"register",
    b"restrict",
    b"return",
    b"short",
    b"signed",
    b"sizeof",
    b"static",
    b"static_assert",
    b"struct",
    b"switch",
    b"thread_local",
    b"typedef",
    b"typeof",
    b"typeof_unqual",
    b"union",
    b"unix",
    b"unsigned",
    b"void",
    b"volatile",
    b"while",
];

/// The integers and floating-point numbers that compilers have, sorted, with their sizes where `long` and pointers have 64 bits.
const BUILT_IN: &[(&[u8], u32)] = &[
    (b"_Bool", 1),
    (b"__int128", 16),
    (b"__int128 unsigned", 16),
    (b"char", 1),
    (b"double", 8),
    (b"float", 4),
    (b"int", 4),
    (b"long", 8),
    (b"long double", 16),
    (b"long int", 8),
    (b"long long", 8),
    (b"long long int", 8),
    (b"long long unsigned int", 8),
    (b"long unsigned int", 8),
    (b"short", 2),
    (b"short int", 2),
    (b"short unsigned int", 2),
    (b"signed char", 1),
    (b"unsigned __int128", 16),
    (b"unsigned char", 1),
    (b"unsigned int", 4),
    (b"unsigned long", 8),
    (b"unsigned long long", 8),
    (b"unsigned short", 2),
];

/// Whether C takes it for something else than a name.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    RESERVED.binary_search(&name).is_ok()
}

/// Whether compilers know a number of this name, and give it so many bytes.
pub(super) fn is_built_in(name: &[u8], size: u32) -> bool {
    BUILT_IN.binary_search_by_key(&name, |&(known, _)| known).is_ok_and(|index| BUILT_IN[index].1 == size)
}

/// The integer of so many bytes.
pub(super) fn integer(size: u32, signed: bool) -> Option<&'static str> {
    Some(match (size, signed) {
        (1, true) => "signed char",
        (1, false) => "unsigned char",
        (2, true) => "short",
        (2, false) => "unsigned short",
        (4, true) => "int",
        (4, false) => "unsigned int",
        (8, true) => "long long",
        (8, false) => "unsigned long long",
        (16, true) => "__int128",
        (16, false) => "unsigned __int128",
        _ => return None,
    })
}

/// Appends a name, with `_` for what C has in none: the names of other languages have brackets and colons.
pub(super) fn push(out: &mut Vec<u8>, name: &[u8]) {
    if name.first().is_some_and(u8::is_ascii_digit) {
        out.push(b'_');
    }
    let start = out.len();
    out.extend_from_slice(name);
    for byte in &mut out[start..] {
        if !byte.is_ascii_alphanumeric() {
            *byte = b'_';
        }
    }
}

/// Appends a number.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends what stands between quotation marks: of what could end the string, or the line, nothing is left.
pub(super) fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend(
        text.iter().map(|&byte| if matches!(byte, b' '..=b'~') && !b"\"\\?".contains(&byte) { byte } else { b'_' }),
    );
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_are_sorted() {
        assert!(RESERVED.is_sorted() && BUILT_IN.is_sorted());
        assert!(is_reserved(b"while") && is_reserved(b"_Alignas") && !is_reserved(b"sock"));
        assert!(
            is_built_in(b"long unsigned int", 8) && !is_built_in(b"long unsigned int", 4) && !is_built_in(b"u8", 1)
        );
    }

    #[test]
    fn no_name_ends_its_declaration() {
        let mut out = Vec::new();
        push(&mut out, b"core::option::Option<u8>");
        out.push(b' ');
        push(&mut out, b"0;}\n\xff");
        out.push(b' ');
        quoted(&mut out, b"a\"b\\\n?");
        out.push(b' ');
        number(&mut out, u64::MAX);
        assert_eq!(out, b"core__option__Option_u8_ _0____ \"a_b___\" 18446744073709551615");
    }
}
