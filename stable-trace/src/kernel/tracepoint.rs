//! A tracepoint's record as the kernel lays it out: `events/SYSTEM/NAME/format` of tracefs.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The tracepoint that says that a task is about to wait for a folio's writeback, by preference:
/// from 5.16 on, and up to 5.15 (include/trace/events/writeback.h). A kernel has one of them.
pub const WAIT_TRACEPOINTS: [&str; 2] = ["folio_wait_writeback", "wait_on_page_writeback"];

/// Its system.
pub const WAIT_SYSTEM: &str = "writeback";

/// The fields of it that we read: the backing device's name, the file's inode, the page's index.
pub const WAIT_FIELDS: [&str; 3] = ["name", "ino", "index"];

/// What is wrong with a tracepoint.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// This kernel does not have it.
    #[error(
        "this kernel has no tracepoint {system}:{name} (no {}); it needs CONFIG_TRACEPOINTS and \
         CONFIG_FTRACE",
        path.display()
    )]
    Absent {
        /// Its system.
        system: String,
        /// Its name.
        name: String,
        /// The file that is not there.
        path: PathBuf,
    },
    /// Its description cannot be read.
    #[error("cannot read {}: {source}; run as root, or give CAP_DAC_READ_SEARCH", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its description has no `ID:` line, or a field without an offset or a size.
    #[error("the tracepoint's format has a line that is not understood: `{0}`; please report it")]
    Malformed(String),
    /// It lacks a field that is needed.
    #[error("the tracepoint {tracepoint} of this kernel has no field `{field}`; please report it")]
    Field {
        /// The tracepoint.
        tracepoint: String,
        /// The field.
        field: String,
    },
}

/// A tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The tracepoint's name, without its system.
    pub name: String,
    /// The number that `perf_event_open` takes.
    pub id: u32,
    /// Its fields in order, the common ones first.
    pub fields: Vec<Field>,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its C type, without the array's length.
    pub ctype: String,
    /// Bytes from the record's start.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Whether the kernel calls it signed.
    pub signed: bool,
    /// The number of elements, where it is an array of a known length.
    pub array: Option<u32>,
    /// Whether it holds only the place of the data: `__data_loc` (length and offset).
    pub data_loc: bool,
}

impl Format {
    /// Understands a format file.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] with the line that is not understood.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut format = Self { name: String::new(), id: 0, fields: Vec::new() };
        let mut id = None;
        for line in text.lines().map(str::trim) {
            let malformed = || FormatError::Malformed(line.to_owned());
            if let Some(name) = line.strip_prefix("name:") {
                name.trim().clone_into(&mut format.name);
            } else if let Some(number) = line.strip_prefix("ID:") {
                id = Some(number.trim().parse().map_err(|_| malformed())?);
            } else if let Some(field) = line.strip_prefix("field:") {
                format.fields.push(parse_field(field).ok_or_else(malformed)?);
            }
        }
        format.id = id.ok_or_else(|| FormatError::Malformed("no ID".to_owned()))?;
        Ok(format)
    }

    /// Reads the format of one tracepoint below a tracefs (see [`super::tracefs`]).
    ///
    /// # Errors
    /// [`FormatError`] if there is none, it cannot be read, or it is not understood.
    pub fn read(root: &Path, system: &str, name: &str) -> Result<Self, FormatError> {
        let path = root.join("events").join(system).join(name).join("format");
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => FormatError::Absent {
                system: system.to_owned(),
                name: name.to_owned(),
                path: path.clone(),
            },
            _ => FormatError::Read { path: path.clone(), source },
        })?;
        Self::parse(&text)
    }

    /// Reads the format of the tracepoint that tells of waits for writeback; its name tells which
    /// of [`WAIT_TRACEPOINTS`] this kernel has.
    ///
    /// # Errors
    /// As [`Format::read`]; where the kernel has neither, for the newer one.
    pub fn read_wait(root: &Path) -> Result<Self, FormatError> {
        let [folio, page] = WAIT_TRACEPOINTS.map(|name| Self::read(root, WAIT_SYSTEM, name));
        match folio {
            Err(FormatError::Absent { .. }) => page.or(folio),
            _ => folio,
        }
    }

    /// The field of a name, if it has one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field of a name.
    ///
    /// # Errors
    /// [`FormatError::Field`] if there is none.
    pub fn require(&self, name: &str) -> Result<&Field, FormatError> {
        self.field(name).ok_or_else(|| FormatError::Field {
            tracepoint: self.name.clone(),
            field: name.to_owned(),
        })
    }
}

/// `TYPE NAME[LENGTH];\toffset:N;\tsize:N;\tsigned:N;`, or nothing if it is not that.
fn parse_field(text: &str) -> Option<Field> {
    let mut parts = text.split(';').map(str::trim);
    let declaration = parts.next()?;
    let (mut offset, mut size, mut signed) = (None, None, false);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", number)) => offset = Some(number.parse().ok()?),
            Some(("size", number)) => size = Some(number.parse().ok()?),
            Some(("signed", number)) => signed = number != "0",
            _ => {}
        }
    }
    let (declaration, data_loc) = match declaration.strip_prefix("__data_loc ") {
        Some(rest) => (rest, true),
        None => (declaration, declaration.starts_with("__rel_loc ")),
    };
    let (ctype, name) = declaration.rsplit_once(char::is_whitespace)?;
    let (name, array) = match name.split_once('[') {
        Some((name, length)) => (name, length.strip_suffix(']')?.parse().ok()),
        None => (name, None),
    };
    Some(Field {
        name: name.to_owned(),
        ctype: ctype.trim().to_owned(),
        offset: offset?,
        size: size?,
        signed,
        array,
        data_loc,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // As 6.18 prints it.
    const TEXT: &str = "name: folio_wait_writeback
ID: 451
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char name[32];\toffset:8;\tsize:32;\tsigned:0;
\tfield:ino_t ino;\toffset:40;\tsize:8;\tsigned:0;
\tfield:unsigned long index;\toffset:48;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:56;\tsize:4;\tsigned:0;

print fmt: \"bdi %s: ino=%lu, index=%lu\", REC->name, (unsigned long)REC->ino, REC->index
";

    #[test]
    fn a_format_is_understood() {
        let format = Format::parse(TEXT).unwrap();
        assert_eq!((format.name.as_str(), format.id), ("folio_wait_writeback", 451));
        let name = format.require("name").unwrap();
        assert_eq!((name.ctype.as_str(), name.offset, name.size), ("char", 8, 32));
        assert_eq!((name.array, name.signed), (Some(32), false));
        assert!(format.require("common_pid").unwrap().signed);
        let path = format.require("path").unwrap();
        assert_eq!((path.ctype.as_str(), path.data_loc, path.array), ("char[]", true, None));
        assert_eq!(format.require("index").unwrap().ctype, "unsigned long");
        let error = format.require("inode").unwrap_err().to_string();
        assert!(error.contains("folio_wait_writeback") && error.contains("inode"), "{error}");
    }

    #[test]
    fn a_format_that_makes_no_sense_is_quoted() {
        assert!(matches!(Format::parse(""), Err(FormatError::Malformed(_))));
        let error = Format::parse("ID: 1\n\tfield:int a;\tsize:4;").unwrap_err().to_string();
        assert!(error.contains("field:int a;"), "{error}");
        assert!(Format::parse("ID: many").is_err());
    }

    #[test]
    fn the_kernels_of_before_5_16_have_another_name() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(Format::read_wait(root.path()), Err(FormatError::Absent { .. })));
        let folder = root.path().join("events/writeback/wait_on_page_writeback");
        std::fs::create_dir_all(&folder).unwrap();
        let text = TEXT.replace("folio_wait", "wait_on_page");
        std::fs::write(folder.join("format"), text).unwrap();
        assert_eq!(Format::read_wait(root.path()).unwrap().name, "wait_on_page_writeback");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in ".*", field in "field:.*") {
            let _ = Format::parse(&text);
            let _ = Format::parse(&format!("ID: 1\n{field}\n"));
        }
    }
}
