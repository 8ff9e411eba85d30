use super::*;
use crate::error::ErrorKind;

#[test]
fn every_fault_of_a_clusters_settings_is_reported_at_once() {
    let properties =
        [("bootstrap.servers", "a:0"), ("linger.ms", "5"), ("request.timeout.m", "1"), ("client.id", "me")];
    let error = ClusterBuilder::from_properties(properties).metadata_max_idle(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    for part in [
        "3 wrong settings",
        "a:0",
        "\"request.timeout.m\" is unknown; is it request.timeout.ms?",
        "metadata_max_idle (metadata.max.idle.ms) is 0ns",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = Cluster::builder([""; 0]).build().unwrap_err();
    assert!(error.to_string().contains("bootstrap_servers"), "{error}");
    let error = ClusterBuilder::from_properties_text("a=\\u00").build().unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn properties_set_what_the_setters_set() {
    let text = "bootstrap.servers=a,b:1\nclient.id=me\nrequest.timeout.ms=7\n";
    let by_properties = ClusterBuilder::from_properties_text(text).build().unwrap();
    let by_setters = Cluster::builder(["a", "b:1"]).client_id("me").request_timeout(Duration::from_millis(7)).build();
    assert_eq!(format!("{:?}", by_properties.config()), format!("{:?}", by_setters.unwrap().config()));
    assert_eq!(format!("{by_properties:?}").matches("me").count(), 1);
    let of_any_thread = |_: &(dyn Send + Sync)| ();
    of_any_thread(&by_properties.clone());
}
