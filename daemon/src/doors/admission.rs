//! One event on its way in: its fields as the store takes them. Pure.

use bytes::Bytes;
use pipectl_shared::config::Config;
use pipectl_shared::rpc::IngestEvent;

use crate::plans::words::quote;
use crate::record::{
    FIELD_ORIGIN, FIELD_REDRIVE, FIELD_REDRIVE_FOR, FIELD_SENT, FIELDS_MAX, Fields, event_id,
};
use crate::store::Admission;

/// The event as the store takes it, and its bytes.
pub(super) fn admission(
    event: &IngestEvent,
    config: &Config,
    now_us: u64,
) -> Result<(Admission, usize), String> {
    if event.id.len() != 32 || !event.id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("id {} is not 32 hex digits", quote(&event.id)));
    }
    let mut fields: Fields = Vec::with_capacity(event.roles.len() + event.fields.len() + 2);
    let mut id = None;
    if !config.event.id.is_empty() {
        // The window knows the event by the field's bytes, as the first stage will.
        id = Some(event_id(event.id.as_bytes()));
        fields.push((
            Bytes::from(config.event.id.clone()),
            Bytes::from(event.id.clone()),
        ));
    }
    let decoded = |value: &pipectl_shared::rpc::Bytes, name: &str| {
        value
            .decode()
            .map(Bytes::from)
            .ok_or_else(|| format!("the base64 of {} is broken", quote(name)))
    };
    for (role, value) in &event.roles {
        let event = &config.event;
        let name = match role.as_str() {
            "key" => &event.key,
            "type" => &event.kind,
            "time" => &event.time,
            "value" => &event.value,
            "product" => &event.product,
            "session" => &event.session,
            other => return Err(format!("{} is no role", quote(other))),
        };
        // A role without a field keeps its own name, so that nothing is lost.
        let name = if name.is_empty() { role } else { name };
        fields.push((Bytes::from(name.clone()), decoded(value, role)?));
    }
    for (name, value) in &event.fields {
        // Ours: a file that was written out of a pipeline may bring them along.
        let reserved = [FIELD_SENT, FIELD_ORIGIN, FIELD_REDRIVE, FIELD_REDRIVE_FOR];
        if reserved.contains(&name.as_bytes()) {
            continue;
        }
        fields.push((Bytes::from(name.clone()), decoded(value, name)?));
    }
    fields.push((
        Bytes::from_static(FIELD_SENT),
        Bytes::from(now_us.to_string()),
    ));
    if fields.len() > FIELDS_MAX {
        return Err(format!(
            "{} fields; an entry has at most {FIELDS_MAX}",
            fields.len()
        ));
    }
    let size = fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    Ok((
        Admission {
            event_id: id,
            fields,
        },
        size,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::testkit;

    fn event(id: &str) -> IngestEvent {
        IngestEvent {
            id: id.to_owned(),
            ..IngestEvent::default()
        }
    }

    #[test]
    fn roles_are_written_under_their_configured_fields_and_reserved_ones_are_ours() {
        let config = testkit::config();
        let text = |t: &str| pipectl_shared::rpc::Bytes::Text(t.to_owned());
        let given = IngestEvent {
            id: "00112233445566778899aabbccddeeff".to_owned(),
            roles: vec![
                ("key".to_owned(), text("u1")),
                ("type".to_owned(), text("click")),
            ],
            fields: vec![
                ("agent".to_owned(), text("x")),
                ("_t".to_owned(), text("1")),
                ("_origin".to_owned(), text("1-1")),
                ("_redrive".to_owned(), text("1-1")),
            ],
        };
        let (admission, _) = admission(&given, &config, 42).unwrap();
        let shown: Vec<_> = admission
            .fields
            .iter()
            .map(|(n, v)| {
                (
                    String::from_utf8_lossy(n).into_owned(),
                    String::from_utf8_lossy(v).into_owned(),
                )
            })
            .collect();
        let expected = [
            ("event_id", "00112233445566778899aabbccddeeff"),
            ("user_id", "u1"),
            ("event_type", "click"),
            ("agent", "x"),
            ("_t", "42"),
        ];
        assert_eq!(shown, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(
            admission.event_id,
            Some(event_id(b"00112233445566778899aabbccddeeff"))
        );
    }

    #[test]
    fn broken_events_are_refused_with_what_is_wrong() {
        let config = testkit::config();
        let long = "0".repeat(32);
        let binary = pipectl_shared::rpc::Bytes::Binary {
            b64: "%%%".to_owned(),
        };
        let mut role = event(&long);
        role.roles.push((
            "shoe_size".to_owned(),
            pipectl_shared::rpc::Bytes::Text(String::new()),
        ));
        let mut base64 = event(&long);
        base64.fields.push(("f".to_owned(), binary));
        for (desc, event, part) in [
            ("short id", event("12"), "32 hex digits"),
            ("id that is no hex", event(&"z".repeat(32)), "32 hex digits"),
            ("hostile id", event("\u{1b}[2J"), "32 hex digits"),
            ("unknown role", role, "no role"),
            ("broken base64", base64, "base64"),
        ] {
            let what = admission(&event, &config, 1).unwrap_err();
            assert!(
                what.contains(part) && !what.contains('\u{1b}'),
                "{desc}: {what}"
            );
        }
    }
}
