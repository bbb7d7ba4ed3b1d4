//! What the compiler says of mistakes in `bpf!`: the message, the token, the suggestion.

#[test]
fn mistakes_are_underlined_at_their_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
