//! Shares equal strings.

use std::rc::Rc;

use hashbrown::HashSet;

/// The limit of interned strings. Names of devices and file-system types are few.
const CAPACITY: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Rc<str>>);

impl Interner {
    /// Returns the shared string. Beyond [`CAPACITY`] it is not shared.
    pub(super) fn intern(&mut self, text: &str) -> Rc<str> {
        if let Some(interned) = self.0.get(text) {
            return Rc::clone(interned);
        }
        let text: Rc<str> = text.into();
        if self.0.len() < CAPACITY {
            self.0.insert(Rc::clone(&text));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_shared_up_to_the_capacity() {
        let mut interner = Interner::default();
        assert!(Rc::ptr_eq(&interner.intern("sda"), &interner.intern("sda")));
        for number in 0..5 * CAPACITY {
            assert_eq!(&*interner.intern(&number.to_string()), number.to_string());
        }
        assert_eq!(interner.0.len(), CAPACITY);
    }
}
