//! Frames on a pipe: a little-endian u32 length, then so many bytes of JSON.

use std::io::{self, Read, Write};

/// The largest frame. Stages exchange paths and numbers; tensors go through files.
pub(super) const LARGEST: u32 = 16 << 20;

/// Writes one frame.
pub(super) fn write(pipe: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    let length = length_of(payload)?;
    let mut frame = Vec::with_capacity(payload.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    pipe.write_all(&frame)?;
    pipe.flush()
}

/// The length field of a payload; an error if it is too large for a frame.
pub(super) fn length_of(payload: &[u8]) -> io::Result<u32> {
    u32::try_from(payload.len()).ok().filter(|length| *length <= LARGEST).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a message of {} bytes exceeds the limit of {LARGEST}", payload.len()),
        )
    })
}

/// Reads one frame; none at the end of the pipe. An end inside a frame, or a length above the limit, is an error.
pub(super) fn read(pipe: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut have = 0;
    while let Some(rest) = length.get_mut(have..)
        && !rest.is_empty()
    {
        match pipe.read(rest) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_le_bytes(length);
    if length > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame claims {length} bytes, which exceeds the limit of {LARGEST}"),
        ));
    }
    // `take` grows the buffer as bytes arrive: a length alone allocates nothing.
    let mut payload = Vec::new();
    pipe.by_ref().take(u64::from(length)).read_to_end(&mut payload)?;
    if payload.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_back_as_they_were_written(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
            let mut pipe = Vec::new();
            for payload in &payloads {
                write(&mut pipe, payload)?;
            }
            let mut pipe = pipe.as_slice();
            for payload in &payloads {
                let back = read(&mut pipe)?;
                prop_assert_eq!(back.as_ref(), Some(payload));
            }
            prop_assert_eq!(read(&mut pipe)?, None);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_and_never_a_large_allocation(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut pipe = bytes.as_slice();
            while let Ok(Some(payload)) = read(&mut pipe) {
                prop_assert!(payload.capacity() <= 4096);
            }
        }
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        for bytes in [&[1, 0][..], &[3, 0, 0, 0, b'x', b'y'], &[255, 255, 255, 255]] {
            assert!(read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused_before_it_is_sent() {
        let mut pipe = Vec::new();
        assert!(write(&mut pipe, &vec![0; LARGEST as usize + 1]).is_err());
        assert!(pipe.is_empty());
    }
}
