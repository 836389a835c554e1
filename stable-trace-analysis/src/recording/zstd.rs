//! Zstandard: a recording is a file of many frames, each of whole lines.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// What every frame begins with (RFC 8878, 3.1.1).
pub const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Text as one frame.
pub fn frame(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

/// Reads what is in one frame after the other.
pub struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Frames<R> {
    /// Reads the frames of `input`.
    pub fn new(input: R) -> Self {
        Self { input, decoder: FrameDecoder::new(), open: false }
    }

    /// Begins the next frame; false if there is none.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.input) {
                Ok(()) => {
                    self.open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.input).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(self.broken(&error)),
            }
        }
        Ok(false)
    }

    /// Cut off if nothing follows, damaged otherwise.
    fn broken(&mut self, error: &FrameDecoderError) -> io::Error {
        match self.input.fill_buf() {
            Ok([]) => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "its last zstd frame is cut off")
            }
            Ok(_) => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its zstd frame is damaged: {error}"),
            ),
            Err(error) => error,
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let step = BlockDecodingStrategy::UptoBlocks(1);
                if let Err(error) = self.decoder.decode_blocks(&mut self.input, step) {
                    self.open = false;
                    return Err(self.broken(&error));
                }
            }
            let read = self.decoder.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            self.open = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<u8>, io::Result<usize>) {
        let mut text = Vec::new();
        let outcome = Frames::new(bytes).read_to_end(&mut text);
        (text, outcome)
    }

    #[test]
    fn frames_follow_each_other_and_others_are_skipped() {
        let mut bytes = frame(b"one\n");
        // A skippable frame: RFC 8878, 3.1.2.
        bytes.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        bytes.extend(frame(b"two\n"));
        let (text, outcome) = read(&bytes);
        assert_eq!((text.as_slice(), outcome.unwrap()), (&b"one\ntwo\n"[..], 8));
        assert_eq!(bytes.get(..4), Some(&MAGIC[..]));
    }

    #[test]
    fn a_cut_leaves_the_frames_before_it() {
        let first = frame(b"one\n");
        let both = [first.clone(), frame(b"two two two\n")].concat();
        for end in first.len() + 1..both.len() {
            let (text, outcome) = read(&both[..end]);
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "at {end}");
            assert!(text.starts_with(b"one\n"), "at {end}: {text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(texts in proptest::collection::vec("[a-z\n]{1,300}", 1..5)) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(text.as_bytes())).collect();
            let (text, outcome) = read(&bytes);
            prop_assert!(outcome.is_ok());
            prop_assert_eq!(text, texts.concat().into_bytes());
        }

        #[test]
        fn garbage_is_an_error_or_text_but_never_a_panic(
            at in 0_usize..1000, byte in any::<u8>(), cut in 0_usize..1000,
        ) {
            let mut bytes = [frame(&b"some lines of text\n".repeat(40)), frame(b"x\n")].concat();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = read(&bytes);
        }
    }
}
