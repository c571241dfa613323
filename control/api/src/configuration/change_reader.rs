//! Changes on the wire and in files: read as they come where there are many of a kind, see [`crate::tag_first`].

use serde::Deserialize;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde_json::Value;

use super::{Change, Destination, VirtualService};
use crate::identity::ServiceId;
use crate::tag_first::{TagFirst, serde_tag_first};

serde_tag_first!(Change);

/// [`Change::AddService`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddServiceFields {
    service: VirtualService,
}

/// [`Change::AddDestination`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddDestinationFields {
    service: ServiceId,
    destination: Destination,
}

impl TagFirst for Change {
    const TAG: &'static str = "change";

    fn is_direct(variant: &str) -> bool {
        matches!(variant, "add_service" | "add_destination")
    }

    fn direct<'de, A: MapAccess<'de>>(
        variant: &str,
        fields: MapAccessDeserializer<A>,
    ) -> Result<Self, A::Error> {
        if variant == "add_service" {
            let AddServiceFields { service } = AddServiceFields::deserialize(fields)?;
            return Ok(Self::AddService { service });
        }
        let fields = AddDestinationFields::deserialize(fields)?;
        Ok(Self::AddDestination {
            service: fields.service,
            destination: fields.destination,
        })
    }

    fn whole(value: Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str = r#"{"change":"add_destination","service":{"protocol":"tcp","endpoint":"192.0.2.1:80"},
        "destination":{"id":"203.0.113.1:80","method":"nat","weight":7}}"#;

    fn read(text: &str) -> Result<Change, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_change_is_the_same_wherever_its_name_stands() {
        let change = read(ADD).unwrap();
        let Change::AddDestination { destination, .. } = &change else {
            panic!("{change:?}");
        };
        assert_eq!(destination.weight.get(), 7);
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(ADD).unwrap();
        let name = fields.remove("change").unwrap();
        let fields = serde_json::to_string(&fields).unwrap();
        let fields = fields.trim_end_matches('}');
        assert_eq!(
            read(&format!("{fields}}},\"change\":{name}}}")),
            Ok(change.clone())
        );
        let tree: Value = serde_json::to_value(&change).unwrap();
        assert_eq!(serde_json::from_value::<Change>(tree).unwrap(), change);
    }

    #[test]
    fn what_is_no_change_is_an_error() {
        let error = |text: &str| read(text).unwrap_err();
        assert!(error(r#"{"change":"grow"}"#).contains("unknown variant `grow`"));
        assert!(error(r#"{"service":1}"#).contains("missing field `change`"));
        assert!(error(r#"{"change":7}"#).contains("variant identifier"));
        assert!(error(r#"[]"#).contains("an object with a field `change`"));
        let more = ADD.replacen("\"destination\"", "\"colour\":1,\"destination\"", 1);
        assert!(error(&more).contains("unknown field `colour`"));
        let twice = ADD.replacen("\"destination\"", "\"service\":1,\"destination\"", 1);
        assert!(error(&twice).contains("duplicate field `service`"));
        let flush = r#"{"change":"flush","change":"flush"}"#;
        assert!(error(flush).contains("duplicate field `change`"));
    }
}
