//! The layout of a tracepoint's record: `events/SYSTEM/NAME/format` of tracefs.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The tracepoint that fires before a task waits for a folio's writeback: from 5.16 on, and up to
/// 5.15 (include/trace/events/writeback.h). A kernel has one of them.
pub const WAIT_TRACEPOINTS: [&str; 2] = ["folio_wait_writeback", "wait_on_page_writeback"];

/// The system of [`WAIT_TRACEPOINTS`].
pub const WAIT_SYSTEM: &str = "writeback";

/// The fields that are read: name of the backing device, inode of the file, index of the page.
pub const WAIT_FIELDS: [&str; 3] = ["name", "ino", "index"];

/// Why a tracepoint's format cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// This kernel has no such tracepoint.
    #[error(
        "this kernel has no tracepoint {system}:{name} (no {}); it needs CONFIG_TRACEPOINTS and \
         CONFIG_FTRACE",
        path.display()
    )]
    Absent {
        /// The system.
        system: String,
        /// The name, without the system.
        name: String,
        /// The file that does not exist.
        path: PathBuf,
    },
    /// The format cannot be read.
    #[error("cannot read {} (run as root, or give CAP_DAC_READ_SEARCH)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The format has no `ID:` line, or a field without an offset or a size.
    #[error("the tracepoint's format has a malformed line: `{0}`; please report it")]
    Malformed(String),
    /// A field that is read is missing.
    #[error("the tracepoint {tracepoint} of this kernel has no field `{field}`; please report it")]
    Field {
        /// The tracepoint.
        tracepoint: String,
        /// The field.
        field: String,
    },
}

/// The format of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The tracepoint's name, without the system.
    pub name: String,
    /// The ID for `perf_event_open`.
    pub id: u32,
    /// The fields in order, the common ones first.
    pub fields: Vec<Field>,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// The C type, without an array's length.
    pub ctype: String,
    /// Offset in the record, in bytes.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Whether the type is signed.
    pub signed: bool,
    /// The number of elements of an array of fixed length.
    pub array: Option<u32>,
    /// Whether the field holds length and offset of the data (`__data_loc`), not the data.
    pub data_loc: bool,
}

impl Format {
    /// Parses a format file.
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

    /// Reads the format of a tracepoint from the tracefs at `root`.
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

    /// Reads the format of the one of [`WAIT_TRACEPOINTS`] that this kernel has. If it has neither,
    /// the error names the newer.
    pub fn read_wait(root: &Path) -> Result<Self, FormatError> {
        let [folio, page] = WAIT_TRACEPOINTS.map(|name| Self::read(root, WAIT_SYSTEM, name));
        match folio {
            Err(FormatError::Absent { .. }) => page.or(folio),
            _ => folio,
        }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field with this name, or an error that names it.
    pub fn require(&self, name: &str) -> Result<&Field, FormatError> {
        self.field(name).ok_or_else(|| FormatError::Field {
            tracepoint: self.name.clone(),
            field: name.to_owned(),
        })
    }
}

/// Parses `TYPE NAME[LENGTH];\toffset:N;\tsize:N;\tsigned:N;`.
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

    // Of 6.18.
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
    fn a_format_is_parsed() {
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
    fn a_malformed_line_is_quoted() {
        assert!(matches!(Format::parse(""), Err(FormatError::Malformed(_))));
        let error = Format::parse("ID: 1\n\tfield:int a;\tsize:4;").unwrap_err().to_string();
        assert!(error.contains("field:int a;"), "{error}");
        assert!(Format::parse("ID: many").is_err());
    }

    #[test]
    fn kernels_before_5_16_have_the_older_name() {
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
        fn parsing_accepts_any_text(text in ".*", field in "field:.*") {
            let _ = Format::parse(&text);
            let _ = Format::parse(&format!("ID: 1\n{field}\n"));
        }
    }
}
