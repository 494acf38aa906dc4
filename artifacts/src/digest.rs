//! Content digests: the name of every stored byte string.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 256-bit BLAKE3 digest. Written everywhere as 64 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A string that is not 64 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: 64 lower-case hexadecimal characters are expected")]
pub struct NotADigest {
    text: String,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        blake3::hash(bytes).into()
    }

    /// The digest of everything that `reader` yields, and how many bytes that were.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hashing = HashingWriter::new(io::sink());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hashing.write_all(buffer.get(..n).unwrap_or_default())?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let (_, digest, size) = hashing.into_parts();
        Ok((digest, size))
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest made of these 32 raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first eight hexadecimal characters: enough for a person, too little for a machine.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    /// Upper case is refused, so that a digest has one spelling and one file name.
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let refused = || NotADigest { text: text.chars().take(80).collect() };
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refused());
        }
        blake3::Hash::from_hex(text).map(Self::from).map_err(|_| refused())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Passes what is written on to `inner` and digests it on the way, so that a file is never read back to learn its name.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: Box<blake3::Hasher>,
    written: u64,
}

impl<W> HashingWriter<W> {
    /// Starts with nothing written.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Box::default(), written: 0 }
    }

    /// The writer below, the digest of what reached it and the number of bytes.
    pub fn into_parts(self) -> (W, Digest, u64) {
        let digest = self.hasher.finalize().into();
        (self.inner, digest, self.written)
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        // Only what `inner` took: a short write is repeated by the caller with the rest.
        self.hasher.update(bytes.get(..n).unwrap_or(bytes));
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference test vectors of BLAKE3 (input of length 0, and `abc`).
    const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    const ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

    #[test]
    fn is_blake3() {
        assert_eq!(Digest::of_bytes(b"").to_string(), EMPTY);
        assert_eq!(Digest::of_bytes(b"abc").to_string(), ABC);
        assert_eq!(Digest::of_reader(&b"abc"[..]).unwrap(), (ABC.parse().unwrap(), 3));
    }

    #[test]
    fn has_one_spelling() {
        for bad in ["", "af13", &EMPTY.to_uppercase(), &format!("{EMPTY}0"), &EMPTY.replace('a', "g"), "é"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad} was taken");
        }
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
        assert_eq!(serde_json::from_str::<Digest>(&format!("\"{EMPTY}\"")).unwrap(), digest);
        assert_eq!(serde_json::from_value::<Digest>(EMPTY.into()).unwrap(), digest);
        assert_eq!(digest.short(), "af1349b9");
    }

    #[test]
    fn hashing_writer_digests_what_the_writer_below_took() {
        struct Three(Vec<u8>);
        impl Write for Three {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let n = bytes.len().min(3);
                self.0.extend_from_slice(&bytes[..n]);
                Ok(n)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = HashingWriter::new(Three(Vec::new()));
        writer.write_all(b"ten bytes!").unwrap();
        let (inner, digest, size) = writer.into_parts();
        assert_eq!((inner.0.as_slice(), size), (&b"ten bytes!"[..], 10));
        assert_eq!(digest, Digest::of_bytes(b"ten bytes!"));
    }
}
