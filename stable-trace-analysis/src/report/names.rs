//! Names that come again and again, kept once.

use std::rc::Rc;

use hashbrown::HashSet;

/// The most that are kept: devices and types of file systems are few.
const MOST: usize = 1024;

/// Names.
#[derive(Debug, Default)]
pub struct Names(HashSet<Rc<str>>);

impl Names {
    /// The name, shared with who asked before.
    pub fn share(&mut self, name: &str) -> Rc<str> {
        if let Some(known) = self.0.get(name) {
            return Rc::clone(known);
        }
        let name: Rc<str> = name.into();
        if self.0.len() < MOST {
            self.0.insert(Rc::clone(&name));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_not_without_end() {
        let mut names = Names::default();
        assert!(Rc::ptr_eq(&names.share("sda"), &names.share("sda")));
        for number in 0..5 * MOST {
            assert_eq!(&*names.share(&number.to_string()), number.to_string());
        }
        assert_eq!(names.0.len(), MOST);
    }
}
