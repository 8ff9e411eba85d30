use super::*;
use crate::error::ErrorKind;

#[test]
fn every_fault_of_an_admin_clients_settings_is_reported_at_once() {
    let properties = [
        ("bootstrap.servers", "a:0"),
        ("linger.ms", "5"),
        ("default.api.timeout.m", "1"),
        ("bootstrap.controllers", "c:1"),
        ("client.id", "me"),
    ];
    let error = AdminBuilder::from_properties(properties).api_timeout(Duration::ZERO).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    for part in [
        "4 wrong settings",
        "a:0",
        "\"default.api.timeout.m\" is unknown; is it default.api.timeout.ms?",
        "bootstrap.controllers is not supported",
        "api_timeout (default.api.timeout.ms) is 0ns",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = AdminBuilder::from_properties_text("a=\\u00").build().unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn properties_set_what_the_setters_set() {
    let text = "bootstrap.servers=a,b:1\nclient.id=me\ndefault.api.timeout.ms=7\nacks=1\ngroup.id=g\n";
    let shown = |builder: AdminBuilder| format!("{:?}", (builder.client.check(&mut Vec::new()), builder.api_timeout));
    let by_setters = AdminBuilder::new(["a", "b:1"]).client_id("me").api_timeout(Duration::from_millis(7));
    assert_eq!(shown(AdminBuilder::from_properties_text(text)), shown(by_setters));
    assert_eq!(AdminBuilder::new(["a"]).api_timeout, Duration::from_secs(60));
    let of_any_thread = |_: &(dyn Send + Sync)| ();
    of_any_thread(&AdminBuilder::new(["a"]).build().unwrap());
}

#[test]
fn what_belongs_to_a_cluster_is_refused_on_a_client_that_uses_one() {
    let cluster = Cluster::builder(["kafka01"]).request_timeout(Duration::from_secs(9)).build().unwrap();
    let error = AdminBuilder::on(&cluster).request_timeout(Duration::from_secs(8)).build().unwrap_err();
    assert!(
        error.to_string().contains("request_timeout (request.timeout.ms) is 8s, but the setting belongs"),
        "{error}"
    );
    AdminBuilder::on(&cluster).api_timeout(Duration::from_secs(7)).client_id("own").build().unwrap();
}
