//! Zstandard frames. A compressed recording is a sequence of frames, each of complete lines.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// The first bytes of a frame (RFC 8878, 3.1.1).
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

pub(super) fn compress_frame(text: &[u8]) -> Vec<u8> {
    compress_to_vec(text, CompressionLevel::Fastest)
}

/// A frame cannot be decompressed.
#[derive(Debug, thiserror::Error)]
#[error("a zstd frame is damaged")]
struct DamagedFrame(#[source] FrameDecoderError);

/// Decompresses a sequence of frames.
pub(super) struct FrameReader<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> FrameReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Reads the next frame's header. Returns `false` at the end of the input.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.input) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.input).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(self.frame_error(error)),
            }
        }
        Ok(false)
    }

    /// `UnexpectedEof` if the input ends here, `InvalidData` otherwise.
    fn frame_error(&mut self, error: FrameDecoderError) -> io::Error {
        match self.input.fill_buf() {
            Ok([]) => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the last zstd frame is cut off")
            }
            Ok(_) => io::Error::new(io::ErrorKind::InvalidData, DamagedFrame(error)),
            Err(error) => error,
        }
    }
}

impl<R: BufRead> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame && !self.begin_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let step = BlockDecodingStrategy::UptoBlocks(1);
                if let Err(error) = self.decoder.decode_blocks(&mut self.input, step) {
                    self.in_frame = false;
                    return Err(self.frame_error(error));
                }
            }
            let read = self.decoder.read(out)?;
            if read > 0 {
                return Ok(read);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<u8>, io::Result<usize>) {
        let mut text = Vec::new();
        let outcome = FrameReader::new(bytes).read_to_end(&mut text);
        (text, outcome)
    }

    #[test]
    fn skippable_frames_are_skipped() {
        let mut bytes = compress_frame(b"one\n");
        // A skippable frame: RFC 8878, 3.1.2.
        bytes.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        bytes.extend(compress_frame(b"two\n"));
        let (text, outcome) = read(&bytes);
        assert_eq!((text.as_slice(), outcome.unwrap()), (&b"one\ntwo\n"[..], 8));
        assert_eq!(bytes.get(..4), Some(&MAGIC[..]));
    }

    #[test]
    fn the_frames_before_a_cut_are_read() {
        let first = compress_frame(b"one\n");
        let both = [first.clone(), compress_frame(b"two two two\n")].concat();
        for end in first.len() + 1..both.len() {
            let (text, outcome) = read(&both[..end]);
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "at {end}");
            assert!(text.starts_with(b"one\n"), "at {end}: {text:?}");
        }
    }

    proptest! {
        #[test]
        fn compressed_text_is_read_back(texts in proptest::collection::vec("[a-z\n]{1,300}", 1..5)) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| compress_frame(text.as_bytes())).collect();
            let (text, outcome) = read(&bytes);
            prop_assert!(outcome.is_ok());
            prop_assert_eq!(text, texts.concat().into_bytes());
        }

        #[test]
        fn damage_never_panics(
            at in 0_usize..1000, byte in any::<u8>(), cut in 0_usize..1000,
        ) {
            let mut bytes = [compress_frame(&b"some lines of text\n".repeat(40)), compress_frame(b"x\n")].concat();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = read(&bytes);
        }
    }
}
