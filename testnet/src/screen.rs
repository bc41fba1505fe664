//! How does text get to the person: redrawn in place on a terminal, line after line elsewhere?
//!
//! Knows escape codes, and nothing of what it shows.

use std::io::{self, IsTerminal, Write};

/// Where text goes.
pub struct Screen {
    terminal: bool,
    drawn: usize,
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        Self { terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Whether somebody watches.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints lines that stay.
    pub fn print(&mut self, text: &str) {
        self.drawn = 0;
        write(&format!("{text}\n"));
    }

    /// Draws lines over those that were drawn last.
    pub fn draw(&mut self, lines: &[String]) {
        write(&redraw(self.drawn, lines));
        self.drawn = lines.len();
    }
}

/// ECMA-48: up by the lines drawn before, then each line, erased to its end, and everything below erased.
fn redraw(before: usize, lines: &[String]) -> String {
    let mut text = if before == 0 { String::new() } else { format!("\x1b[{before}A\r") };
    for line in lines {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that went away must not end the run before its promises are checked and its children stopped.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_drawing_starts_where_the_first_did() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(redraw(0, &lines), "a\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(redraw(2, &lines), "\x1b[2A\ra\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
