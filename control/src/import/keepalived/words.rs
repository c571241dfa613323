//! The words of a line: quotes and escapes as keepalived has them, braces for themselves.

use std::iter::Peekable;
use std::str::Chars;

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A word, quotes taken away.
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Takes a line apart.
pub fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.peek().copied() {
        if letter.is_whitespace() {
            letters.next();
        } else {
            word(&mut letters, &mut tokens);
        }
    }
    tokens
}

fn word(letters: &mut Peekable<Chars<'_>>, tokens: &mut Vec<Token>) {
    let mut word = String::new();
    let mut is_quoted = false;
    let mut quote = None;
    while let Some(letter) = letters.next_if(|letter| quote.is_some() || !letter.is_whitespace()) {
        match (quote, letter) {
            (_, '\\') => escaped(letters, &mut word),
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') if letters.clone().any(|other| other == letter) => {
                is_quoted = true;
                quote = Some(letter);
            }
            _ => word.push(letter),
        }
    }
    // A brace is one when it stands alone or at an end; `${...}` is a parameter that nobody defined.
    if is_quoted || word.contains("${") {
        tokens.push(Token::Word(word));
        return;
    }
    let mut rest = word.as_str();
    while let Some((token, behind)) = leading(rest) {
        tokens.push(token);
        rest = behind;
    }
    let mut behind = Vec::new();
    while let Some((token, before)) = trailing(rest) {
        behind.push(token);
        rest = before;
    }
    if !rest.is_empty() {
        tokens.push(Token::Word(rest.to_owned()));
    }
    tokens.extend(behind.into_iter().rev());
}

fn leading(text: &str) -> Option<(Token, &str)> {
    text.strip_prefix('{')
        .map(|rest| (Token::Open, rest))
        .or_else(|| Some((Token::Close, text.strip_prefix('}')?)))
}

fn trailing(text: &str) -> Option<(Token, &str)> {
    text.strip_suffix('{')
        .map(|rest| (Token::Open, rest))
        .or_else(|| Some((Token::Close, text.strip_suffix('}')?)))
}

/// What follows a backslash.
fn escaped(letters: &mut Peekable<Chars<'_>>, word: &mut String) {
    let Some(letter) = letters.next() else {
        return;
    };
    let code = |code: u32| char::from_u32(code & 0xff).unwrap_or_default();
    word.push(match letter {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => code(digits(letters, 16, 2, 0)),
        'c' => letters
            .next()
            .map_or('\0', |letter| code(u32::from(letter) & 0x1f)),
        _ => match letter.to_digit(8) {
            Some(first) => code(digits(letters, 8, 2, first)),
            None => letter,
        },
    });
}

fn digits(letters: &mut Peekable<Chars<'_>>, radix: u32, count: usize, first: u32) -> u32 {
    let mut value = first;
    for _ in 0..count {
        let Some(digit) = letters.next_if(|letter| letter.is_digit(radix)) else {
            break;
        };
        value = value * radix + digit.to_digit(radix).unwrap_or(0);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        let tokens = tokens(line).into_iter();
        tokens
            .map(|token| match token {
                Token::Word(word) => word,
                Token::Open => "<".to_owned(),
                Token::Close => ">".to_owned(),
            })
            .collect()
    }

    #[test]
    fn quotes_join_and_go_away() {
        assert_eq!(shown(r#"abcd" efg h jkl "mnop"#), ["abcd efg h jkl mnop"]);
        assert_eq!(
            shown(r#"abcd "efg h jkl" mnop"#),
            ["abcd", "efg h jkl", "mnop"]
        );
        assert_eq!(shown(r#"a "" 'b "c"'"#), ["a", "", "b \"c\""]);
        assert_eq!(shown(r#"\"a\\ \x41\102\t"#), ["\"a\\", "AB\t"]);
        assert_eq!(shown("router_id joe's"), ["router_id", "joe's"]);
    }

    #[test]
    fn braces_stand_for_themselves() {
        assert_eq!(shown("global_defs{"), ["global_defs", "<"]);
        assert_eq!(shown("url { path / }"), ["url", "<", "path", "/", ">"]);
        assert_eq!(shown("a {b}}"), ["a", "<", "b", ">", ">"]);
        assert_eq!(shown(r#"a "{" ${b}"#), ["a", "{", "${b}"]);
    }
}
