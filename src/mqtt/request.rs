//! The packets we say to a broker for ourselves: the CONNECT and DISCONNECT of a probe (MQTT 3.1.1, 3.1, 3.14).

/// DISCONNECT of MQTT 3.1.1.
pub const DISCONNECT_V311: [u8; 2] = [0xE0, 0];

/// Seconds; a probe is over long before.
const KEEPALIVE: u16 = 60;

/// A CONNECT of MQTT 3.1.1 with a clean session and no Will. A password without a username is left out
/// (3.1.2.9). A field is cut at 65535 bytes, the most that
/// MQTT can say.
#[must_use]
pub fn connect_v311(client_id: &str, username: Option<&str>, password: Option<&str>) -> Vec<u8> {
    const CLEAN_SESSION: u8 = 0x02;
    const USERNAME: u8 = 0x80;
    const PASSWORD: u8 = 0x40;
    let password = password.filter(|_| username.is_some());
    let flags = CLEAN_SESSION
        | if username.is_some() { USERNAME } else { 0 }
        | if password.is_some() { PASSWORD } else { 0 };
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(flags);
    body.extend(KEEPALIVE.to_be_bytes());
    for field in [Some(client_id), username, password].into_iter().flatten() {
        let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
        body.extend(length.to_be_bytes());
        body.extend_from_slice(&field.as_bytes()[..usize::from(length)]);
    }
    let mut packet = vec![0x10];
    let mut remaining = body.len();
    loop {
        let more = remaining > 0x7F;
        packet.push((remaining & 0x7F) as u8 | if more { 0x80 } else { 0 });
        remaining >>= 7;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::super::{Connect, Level};
    use super::*;

    #[test]
    fn our_own_reader_and_another_one_read_it_back() {
        let long = "x".repeat(300);
        for (client_id, username, password) in [
            ("probe-1", None, None),
            ("probe-1", Some("probe"), None),
            (long.as_str(), Some("probe"), Some("secret")),
            ("probe-1", None, Some("left out")),
        ] {
            let packet = connect_v311(client_id, username, password);
            let connect = Connect::parse(&packet, 1 << 20).unwrap().unwrap();
            assert_eq!((&*connect.client_id, connect.level), (client_id, Level::V311));
            assert_eq!((connect.username.as_deref(), connect.keepalive), (username, KEEPALIVE));

            let mut bytes = bytes::BytesMut::from(&packet[..]);
            let Ok(mqttbytes::v4::Packet::Connect(read)) = mqttbytes::v4::read(&mut bytes, 1 << 20) else {
                panic!("no CONNECT");
            };
            assert!(read.clean_session && bytes.is_empty());
            let login = read.login.map(|login| (login.username, login.password));
            let expected = username.map(|name| (name.to_owned(), password.unwrap_or_default().to_owned()));
            assert_eq!(login, expected);
        }
    }
}
