//! What is JSON and what is not, in the words of Go's encoding/json.

use std::ops::Range;

/// Objects and lists inside each other.
const DEPTH_MAX: usize = 10_000;

/// Where the first value of a text stands; `None` if there is nothing but white space. What follows it is not looked at.
///
/// # Errors
/// There is no value.
pub(super) fn first_value(text: &[u8]) -> Result<Option<Range<usize>>, String> {
    let mut scan = Scan { text, at: 0 };
    scan.space();
    let start = scan.at;
    if scan.peek().is_none() {
        return Ok(None);
    }
    scan.value()?;
    Ok(Some(start..scan.at))
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A value with all that is inside of it. The stack is ours: texts may be deep.
    fn value(&mut self) -> Result<(), String> {
        let mut open = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if open.len() == DEPTH_MAX {
                        return Err(self.wrong("exceeded max depth"));
                    }
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(bracket + 2) {
                        open.push(bracket);
                        if bracket == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.wrong("looking for beginning of value")),
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// What comes behind a value: the next one's beginning, or ends. Whether all is closed.
    fn close(&mut self, open: &mut Vec<u8>) -> Result<bool, String> {
        while let Some(&bracket) = open.last() {
            self.space();
            match (bracket, self.peek()) {
                (b'{', Some(b',')) => {
                    self.at += 1;
                    self.space();
                    self.name()?;
                    return Ok(false);
                }
                (b'[', Some(b',')) => {
                    self.at += 1;
                    return Ok(false);
                }
                (b'{', Some(b'}')) | (b'[', Some(b']')) => {
                    self.at += 1;
                    open.pop();
                }
                (b'{', _) => return Err(self.wrong("after object key:value pair")),
                _ => return Err(self.wrong("after array element")),
            }
        }
        Ok(true)
    }

    /// A field's name with its colon.
    fn name(&mut self) -> Result<(), String> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("looking for beginning of object key string"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong("after object key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            self.at += 1;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                None | Some(..=0x1f) => return Err(self.wrong("in string literal")),
                Some(_) => {}
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        self.at += 1;
        match self.peek() {
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => Ok(()),
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.wrong("in \\u hexadecimal character escape"));
                    }
                }
                Ok(())
            }
            _ => Err(self.wrong("in string escape code")),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Result<(), String> {
        let digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
        if !digit(self.peek()) {
            return Err(self.wrong(place));
        }
        while digit(self.peek()) {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for letter in word.chars() {
            if self.peek().map(char::from) != Some(letter) {
                return Err(self.wrong(&format!("in literal {word} (expecting '{letter}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// What stands here is wrong; nothing at all is too little.
    fn wrong(&self, place: &str) -> String {
        match self.peek() {
            None => "unexpected EOF".into(),
            Some(byte) => format!("invalid character {} {place}", quoted(byte)),
        }
    }
}

/// A byte as Go quotes the character of this number.
fn quoted(byte: u8) -> String {
    match byte {
        0x07 => "'\\a'".into(),
        0x08 => "'\\b'".into(),
        0x0b => "'\\v'".into(),
        0x0c => "'\\f'".into(),
        b'\t' => "'\\t'".into(),
        b'\n' => "'\\n'".into(),
        b'\r' => "'\\r'".into(),
        b'\'' => "'\\''".into(),
        b'\\' => "'\\\\'".into(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
