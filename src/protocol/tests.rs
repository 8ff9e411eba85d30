//! Checks every message at every version: against the frames that Kafka's own classes write, and with broken frames.

use std::collections::HashMap;

use super::api::{Request, VersionTable};
use super::frame::{FrameReader, FrameWriter, Splice};
use super::header::*;
use super::messages::api_versions::{ApiVersion, FinalizedFeatureKey};
use super::messages::find_coordinator::{Coordinator, KeyType};
use super::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use super::messages::produce::{
    LeaderIdAndEpoch, PartitionProduceData, PartitionProduceResponse, TopicProduceData, TopicProduceResponse,
};
use super::messages::*;
use super::sample::{Sample, Seed};
use super::wire::{At, Records, Uuid, Wire};
use crate::bytes::SharedBytes;
use crate::error::{ErrorKind, Result};

/// Frames without their lengths, written by `java -cp 'LIBS/*' golden/Golden.java`. That file describes the format.
const GOLDEN: &str = include_str!("golden/frames.txt");

/// Calls `$check::<R>()` for every API.
macro_rules! for_every_api {
    ($check:ident($($argument:expr),*)) => {
        $check::<ProduceRequest>($($argument),*);
        $check::<FetchRequest>($($argument),*);
        $check::<ListOffsetsRequest>($($argument),*);
        $check::<MetadataRequest>($($argument),*);
        $check::<FindCoordinatorRequest>($($argument),*);
        $check::<ApiVersionsRequest>($($argument),*);
        $check::<CreateTopicsRequest>($($argument),*);
        $check::<DeleteTopicsRequest>($($argument),*);
        $check::<DeleteRecordsRequest>($($argument),*);
        $check::<InitProducerIdRequest>($($argument),*);
        $check::<DescribeConfigsRequest>($($argument),*);
        $check::<CreatePartitionsRequest>($($argument),*);
        $check::<IncrementalAlterConfigsRequest>($($argument),*);
        $check::<DescribeClusterRequest>($($argument),*);
        $check::<OffsetFetchRequest>($($argument),*);
        $check::<AddPartitionsToTxnRequest>($($argument),*);
        $check::<AddOffsetsToTxnRequest>($($argument),*);
        $check::<EndTxnRequest>($($argument),*);
        $check::<TxnOffsetCommitRequest>($($argument),*);
    };
}

/// Checks the frame's length, and returns the frame without it.
fn without_length(w: &FrameWriter) -> Vec<u8> {
    let (length, frame) = w.bytes().split_first_chunk().unwrap();
    assert_eq!(i32::from_be_bytes(*length), i32::try_from(frame.len()).unwrap());
    frame.to_vec()
}

fn request_frame<R: Request>(request: &R, version: i16, client_id: Option<&str>) -> Result<Vec<u8>> {
    let mut w = FrameWriter::new();
    encode_request(&mut w, request, version, 7, client_id)?;
    Ok(without_length(&w))
}

fn response_frame<R: Request>(response: &R::Response, version: i16) -> Result<Vec<u8>> {
    let mut w = FrameWriter::new();
    encode_response::<R>(&mut w, response, version, 7)?;
    Ok(without_length(&w))
}

fn read_request<R: Request>(frame: &[u8], version: i16) -> Result<(RequestHeader, R)> {
    let frame = SharedBytes::from(frame.to_vec());
    let (header, rest) = decode_request_header(&frame)?;
    Ok((header, decode_request(rest, version)?))
}

fn read_response<R: Request>(frame: &[u8], version: i16) -> Result<(i32, R::Response)> {
    decode_response::<R>(frame.to_vec().into(), version)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every sample frame of the API, with its version, and whether it is a request.
fn sample_frames<R: Request + Sample>() -> Vec<(i16, bool, Vec<u8>)>
where
    R::Response: Sample,
{
    let mut frames = Vec::new();
    for version in R::VERSIONS {
        for nulls in [false, true] {
            let (seed, at) = (Seed::new(nulls), R::at(version));
            frames.push((version, true, request_frame(&R::sample(seed, at), version, Some("client")).unwrap()));
            frames.push((version, false, response_frame::<R>(&Sample::sample(seed, at), version).unwrap()));
        }
    }
    frames
}

#[test]
fn frames_are_those_of_kafkas_own_classes() {
    let mut golden = HashMap::new();
    for line in GOLDEN.lines() {
        let (name, frame) = line.rsplit_once(' ').unwrap();
        golden.insert(name, frame);
    }

    fn check<R: Request + Sample + PartialEq>(golden: &mut HashMap<&str, &str>)
    where
        R::Response: Sample + PartialEq,
    {
        for version in R::VERSIONS {
            for nulls in [false, true] {
                let (seed, at) = (Seed::new(nulls), R::at(version));
                let (kind, client_id) = if nulls { ("null", None) } else { ("full", Some("client")) };

                let name = format!("{} request {version} {kind}", R::NAME);
                let request = R::sample(seed, at);
                let frame = request_frame(&request, version, client_id).unwrap();
                assert_eq!(hex(&frame), golden.remove(&*name).unwrap(), "{name}");
                let header = RequestHeader {
                    api_key: R::KEY,
                    version,
                    correlation_id: 7,
                    client_id: client_id.map(str::to_owned),
                };
                assert_eq!(read_request(&frame, version).unwrap(), (header, request), "{name}");

                let name = format!("{} response {version} {kind}", R::NAME);
                let response = R::Response::sample(seed, at);
                let frame = response_frame::<R>(&response, version).unwrap();
                match golden.remove(&*name) {
                    Some(golden) => assert_eq!(hex(&frame), golden, "{name}"),
                    // Nothing in it can be null, so there is one frame for both seeds.
                    None => assert_eq!(response, R::Response::sample(Seed::new(false), at), "{name}"),
                }
                assert_eq!(read_response::<R>(&frame, version).unwrap(), (7, response), "{name}");
            }
        }
    }
    for_every_api!(check(&mut golden));
    assert!(golden.is_empty(), "untested: {:?}", golden.keys());
}

#[test]
fn a_frame_cut_anywhere_is_an_error() {
    fn check<R: Request + Sample>()
    where
        R::Response: Sample,
    {
        for (version, is_request, frame) in sample_frames::<R>() {
            for cut in 0..frame.len() {
                let read = if is_request {
                    read_request::<R>(&frame[..cut], version).map(drop)
                } else {
                    read_response::<R>(&frame[..cut], version).map(drop)
                };
                assert!(read.is_err(), "{} v{version} cut at {cut} of {}", R::NAME, frame.len());
            }
        }
    }
    for_every_api!(check());
}

#[test]
fn a_frame_with_any_byte_broken_never_panics() {
    fn check<R: Request + Sample>()
    where
        R::Response: Sample,
    {
        for (version, is_request, mut frame) in sample_frames::<R>() {
            for at in 0..frame.len() {
                let good = frame[at];
                for bad in [0, 1, 0x7f, 0x80, 0xff, good.wrapping_add(1), good.wrapping_sub(1)] {
                    frame[at] = bad;
                    // Some changes only give a number another value, so that both outcomes are right.
                    if is_request {
                        let _ = read_request::<R>(&frame, version);
                    } else {
                        let _ = read_response::<R>(&frame, version);
                    }
                }
                frame[at] = good;
            }
        }
    }
    for_every_api!(check());
}

#[test]
fn bytes_after_the_end_are_an_error() {
    fn check<R: Request + Sample>()
    where
        R::Response: Sample,
    {
        for (version, is_request, mut frame) in sample_frames::<R>() {
            frame.push(0);
            if is_request {
                assert!(read_request::<R>(&frame, version).is_err());
            } else {
                let error = read_response::<R>(&frame, version).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
                assert_eq!(error.context().api, Some((R::NAME, version)));
            }
        }
    }
    for_every_api!(check());
}

const CLASSIC: At = At { version: 0, flexible: false };
const FLEXIBLE: At = At { version: 0, flexible: true };

fn read<T: Wire>(bytes: &[u8], at: At) -> Result<T> {
    T::read(&mut FrameReader::new(&bytes.to_vec().into()), at)
}

#[test]
fn counts_and_lengths_beyond_the_frame_fail_at_once() {
    fn check<T: Wire>() {
        // Classic: i32::MAX and one more than is left. Compact: u32::MAX, 2^31, and one more than is left.
        for bytes in [&[0x7f, 0xff, 0xff, 0xff, 0][..], &[0, 0, 0, 2, 0]] {
            assert_eq!(read::<T>(bytes, CLASSIC).err().unwrap().kind(), ErrorKind::BrokerMisbehaved);
        }
        for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], &[0x80, 0x80, 0x80, 0x80, 0x08, 0], &[3, 0]] {
            assert_eq!(read::<T>(bytes, FLEXIBLE).err().unwrap().kind(), ErrorKind::BrokerMisbehaved);
        }
        assert!(read::<T>(&[0x80, 0, 0, 0], CLASSIC).is_err(), "a negative count other than -1");
    }
    check::<Vec<i8>>();
    check::<Vec<PartitionProduceResponse>>();
    check::<Option<Vec<MetadataResponseTopic>>>();
    check::<SharedBytes>();
    check::<Option<SharedBytes>>();
    check::<Records>();
    // The error comes before the first item is read, not after the last that is there.
    let error = read::<Vec<i8>>(&[0, 0, 0, 2, 0], CLASSIC).unwrap_err();
    assert_eq!(error.to_string(), "2 items are announced, 1 bytes are left");
    assert!(read::<String>(&[0x7f, 0xff, b'a'], CLASSIC).is_err());
    assert!(read::<String>(&[0x80, 0, b'a'], CLASSIC).is_err());
    assert!(read::<String>(&[0xff, 0xff, 0xff, 0xff, 0x0f, b'a'], FLEXIBLE).is_err());
    assert!(read::<Option<String>>(&[3, b'a'], FLEXIBLE).is_err());
}

/// A frame of `count` items with the same bytes.
fn items(count: usize, item: &[u8]) -> SharedBytes {
    [&u32::try_from(count).unwrap().to_be_bytes(), &*item.repeat(count)].concat().into()
}

#[test]
fn a_frame_of_tiny_items_takes_no_more_than_a_multiple_of_its_size() {
    // A topic without name and partitions has 6 bytes in the frame, and more than ten times as many in memory.
    let empty = [0; 6];
    let at = ProduceRequest::at(3);
    let frame = items(100_000, &empty);
    let mut reader = FrameReader::new(&frame);
    let error = Vec::<TopicProduceResponse>::read(&mut reader, at).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
    assert!(error.to_string().contains("100000 items"), "{error}");
    assert_eq!(reader.remaining(), frame.len() - 4, "it is refused before anything is read");
    // Nested items count together: here, structures with an empty name and twenty items each.
    let topic = [&[0, 0, 0, 0, 0, 20][..], &[0; 20 * 2]].concat();
    let frame: SharedBytes = items(10_000, &topic);
    let mut reader = FrameReader::new(&frame);
    let error = Vec::<Nested>::read(&mut reader, CLASSIC).unwrap_err();
    assert!(error.to_string().contains("20 items"), "{error}");
    // A short frame may consist of such items.
    let frame = items(50, &empty);
    assert_eq!(Vec::<TopicProduceResponse>::read(&mut FrameReader::new(&frame), at).unwrap().len(), 50);
}

/// A name, and items that take twelve times as many bytes in memory as in the frame.
#[derive(Debug)]
struct Nested {
    _name: String,
    _items: Vec<Sparse>,
}

#[derive(Debug)]
struct Sparse {
    _memory: [u8; 24],
}

impl Wire for Sparse {
    fn write(&self, _: &mut FrameWriter, _: At) -> Result<()> {
        Ok(())
    }

    fn read(r: &mut FrameReader<'_>, _: At) -> Result<Self> {
        let [first, second] = r.take_array()?;
        Ok(Self { _memory: [first.max(second); 24] })
    }
}

impl Wire for Nested {
    fn write(&self, _: &mut FrameWriter, _: At) -> Result<()> {
        Ok(())
    }

    fn read(r: &mut FrameReader<'_>, at: At) -> Result<Self> {
        Ok(Self { _name: Wire::read(r, at)?, _items: Wire::read(r, at)? })
    }
}

/// Checks the smallest answers that brokers can give, with the shortest names and one replica.
#[test]
fn what_brokers_answer_stays_far_below_that_multiple() {
    use super::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition};
    fn check<R: Request>(response: &R::Response) {
        for version in R::VERSIONS {
            let mut w = FrameWriter::new();
            encode_response::<R>(&mut w, response, version, 7).unwrap();
            let frame: SharedBytes = w.bytes().get(4..).unwrap().to_vec().into();
            assert!(frame.len() > 64 * 1024, "{} {version}: {}", R::NAME, frame.len());
            decode_response::<R>(frame, version).unwrap();
        }
    }
    let names = || (0..10_000_u16).map(|number| char::from(b'a' + number.to_le_bytes()[0] % 26).to_string());
    check::<MetadataRequest>(&MetadataResponse {
        brokers: (0..100)
            .map(|node_id| MetadataResponseBroker { node_id, host: "b".into(), port: 9092, rack: None })
            .collect(),
        topics: names()
            .map(|name| MetadataResponseTopic {
                name: Some(name),
                partitions: vec![MetadataResponsePartition {
                    replica_nodes: vec![1],
                    isr_nodes: vec![1],
                    ..Default::default()
                }],
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    check::<ProduceRequest>(&ProduceResponse {
        responses: names()
            .map(|name| TopicProduceResponse {
                name,
                topic_id: Uuid([7; 16]),
                partition_responses: vec![PartitionProduceResponse::default()],
            })
            .collect(),
        ..Default::default()
    });
}

#[test]
fn null_where_none_is_allowed_is_an_error() {
    assert!(read::<String>(&[0xff, 0xff], CLASSIC).is_err());
    assert!(read::<String>(&[0], FLEXIBLE).is_err());
    assert!(read::<Vec<i32>>(&[0xff, 0xff, 0xff, 0xff], CLASSIC).is_err());
    assert!(read::<Vec<i32>>(&[0], FLEXIBLE).is_err());
    assert!(read::<SharedBytes>(&[0], FLEXIBLE).is_err());
    assert_eq!(read::<Option<String>>(&[0xff, 0xff], CLASSIC).unwrap(), None);
    assert_eq!(read::<Option<Vec<i32>>>(&[0], FLEXIBLE).unwrap(), None);
    assert_eq!(read::<Records>(&[0], FLEXIBLE).unwrap(), Records::Null);

    // A topic may be without a name from version 10 on.
    let topic = MetadataRequestTopic::default();
    let mut w = FrameWriter::new();
    let error = topic.write(&mut w, MetadataRequest::at(9)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
    assert!(error.to_string().contains("MetadataRequestTopic.name is null"), "{error}");
    assert!(read::<MetadataRequestTopic>(&[0, 0], MetadataRequest::at(9)).is_err());
    topic.write(&mut w, MetadataRequest::at(10)).unwrap();
    assert_eq!(read::<MetadataRequestTopic>(w.bytes(), MetadataRequest::at(10)).unwrap(), topic);
}

#[test]
fn a_nullable_structure_has_a_byte_before_it() {
    let leader = LeaderIdAndEpoch { leader_id: 1, leader_epoch: 2 };
    let at = ProduceRequest::at(13);
    for value in [None, Some(leader)] {
        let mut w = FrameWriter::new();
        value.write(&mut w, at).unwrap();
        assert_eq!(w.bytes().first(), Some(&if value.is_some() { 1 } else { 0xff }));
        assert_eq!(read::<Option<LeaderIdAndEpoch>>(w.bytes(), at).unwrap(), value);
    }
}

#[test]
fn varints_hold_32_bits_in_at_most_five_bytes() {
    for (value, bytes) in [
        (0, &[0][..]),
        (1, &[1]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (300, &[0xac, 2]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
        (u32::MAX >> 1, &[0xff, 0xff, 0xff, 0xff, 7]),
        (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        let mut w = FrameWriter::new();
        w.put_uvarint(value);
        assert_eq!(w.bytes(), bytes, "{value}");
        assert_eq!(FrameReader::new(&bytes.to_vec().into()).take_uvarint().unwrap(), value);
    }
    // More bytes than needed are allowed, more bits than 32 are not.
    assert_eq!(FrameReader::new(&vec![0x81, 0x80, 0].into()).take_uvarint().unwrap(), 1);
    for bad in [&[][..], &[0x80], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x10], &[0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
        assert!(FrameReader::new(&bad.to_vec().into()).take_uvarint().is_err(), "{bad:?}");
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    fn check<R: Request + Sample + PartialEq>()
    where
        R::Response: Sample + PartialEq,
    {
        for version in R::VERSIONS.filter(|version| *version >= R::FLEXIBLE) {
            // If no known tagged field is set at the top level, the last byte is their number.
            let response = R::Response::default();
            let mut frame = response_frame::<R>(&response, version).unwrap();
            assert_eq!(frame.pop(), Some(0));
            frame.extend([2, 99, 3, 1, 2, 3, 0x80, 0x01, 0]);
            assert_eq!(read_response::<R>(&frame, version).unwrap(), (7, response));
            // The size of a field that is skipped is not trusted, either.
            let size = frame.len() - 7;
            frame[size] = 0x7f;
            assert!(read_response::<R>(&frame, version).is_err());
        }
    }
    for_every_api!(check());
}

#[test]
fn unknown_tagged_fields_of_headers_are_skipped() {
    // A response header v1 with one tag, and a request header v2 with one.
    let response = InitProducerIdResponse::default();
    let mut frame = response_frame::<InitProducerIdRequest>(&response, 5).unwrap();
    frame.splice(4..5, [1, 9, 2, 0, 0]);
    assert_eq!(read_response::<InitProducerIdRequest>(&frame, 5).unwrap(), (7, response));

    let request = InitProducerIdRequest::default();
    let mut frame = request_frame(&request, 5, Some("c")).unwrap();
    frame.splice(11..12, [1, 9, 2, 0, 0]);
    assert_eq!(read_request::<InitProducerIdRequest>(&frame, 5).unwrap().1, request);
}

#[test]
fn a_known_tagged_field_must_fill_its_size() {
    let at = ProduceRequest::at(13);
    let partition = PartitionProduceResponse {
        current_leader: LeaderIdAndEpoch { leader_id: 3, leader_epoch: 4 },
        ..Default::default()
    };
    let mut w = FrameWriter::new();
    partition.write(&mut w, at).unwrap();
    let tagged = [1, 0, 9, 0, 0, 0, 3, 0, 0, 0, 4, 0];
    let (rest, end) = w.bytes().split_at(w.bytes().len() - tagged.len());
    assert_eq!(end, tagged);
    for (size, padding) in [(8, 0), (10, 1)] {
        let mut bytes = rest.to_vec();
        bytes.extend([1, 0, size, 0, 0, 0, 3, 0, 0, 0, 4, 0]);
        bytes.extend(vec![0; padding]);
        let error = read::<PartitionProduceResponse>(&bytes, at).unwrap_err();
        assert!(error.to_string().starts_with("PartitionProduceResponse.current_leader: "), "{error}");
    }
    // At a version that does not have the field, it is skipped like an unknown one.
    let read = read::<PartitionProduceResponse>(w.bytes(), At { version: 9, flexible: true }).unwrap();
    assert_eq!(read, PartitionProduceResponse::default());
}

#[test]
fn a_field_that_the_version_lacks_is_refused_unless_it_may_be_dropped() {
    let request = InitProducerIdRequest { producer_id: 9, ..Default::default() };
    let error = request_frame(&request, 2, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
    assert_eq!(error.context().api, Some(("InitProducerId", 2)));
    let text = "InitProducerIdRequest.producer_id is set, but version 2 does not have it (versions 3 and later)";
    assert!(error.to_string().starts_with(text), "{error}");
    request_frame(&request, 3, None).unwrap();

    // Tagged, and not ignorable.
    let current_leader = LeaderIdAndEpoch { leader_id: 3, leader_epoch: 4 };
    let partition = PartitionProduceResponse { current_leader, ..Default::default() };
    assert!(partition.write(&mut FrameWriter::new(), ProduceRequest::at(9)).is_err());

    // Ignorable.
    let partition = PartitionProduceResponse { log_start_offset: 5, ..Default::default() };
    let mut w = FrameWriter::new();
    partition.write(&mut w, ProduceRequest::at(4)).unwrap();
    assert_eq!(
        read::<PartitionProduceResponse>(w.bytes(), ProduceRequest::at(4)).unwrap(),
        PartitionProduceResponse::default()
    );
}

#[test]
fn an_error_names_the_way_to_the_field() {
    let response = Sample::sample(Seed::new(false), ProduceRequest::at(3));
    let frame = response_frame::<ProduceRequest>(&response, 3).unwrap();
    let error = read_response::<ProduceRequest>(&frame[..24], 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ProduceResponse.responses: TopicProduceResponse.partition_responses: PartitionProduceResponse.error_code: \
         2 bytes are needed, 1 are left (Produce v3)"
    );
}

#[test]
fn spliced_records_are_counted_and_left_to_the_sender() {
    let batches = [vec![0xaa; 200], vec![0xbb; 3]];
    for version in ProduceRequest::VERSIONS {
        let request = |records: fn(&Vec<u8>) -> Records| ProduceRequest {
            acks: -1,
            topic_data: vec![TopicProduceData {
                name: if version <= 12 { "t".into() } else { String::new() },
                topic_id: if version <= 12 { Uuid::default() } else { Uuid([7; 16]) },
                partition_data: (0..)
                    .zip(&batches)
                    .map(|(index, batch)| PartitionProduceData { index, records: records(batch) })
                    .collect(),
            }],
            ..Default::default()
        };
        let mut inline = FrameWriter::new();
        let records = |batch: &Vec<u8>| Records::Inline(batch.clone().into());
        encode_request(&mut inline, &request(records), version, 1, None).unwrap();

        let mut spliced = FrameWriter::new();
        encode_request(&mut spliced, &request(|batch| Records::Spliced(batch.len())), version, 1, None).unwrap();
        assert_eq!(spliced.total_len(), inline.total_len());
        assert_eq!(spliced.splices().iter().map(|splice| splice.len).collect::<Vec<_>>(), [200, 3]);
        let mut sent = Vec::new();
        let mut fill = batches.iter();
        for segment in spliced.segments() {
            sent.extend_from_slice(segment);
            sent.extend_from_slice(fill.next().map_or(&[], Vec::as_slice));
        }
        assert_eq!(hex(&sent), hex(inline.bytes()), "version {version}");
    }
}

#[test]
fn a_cleared_writer_has_one_empty_segment_and_keeps_its_memory() {
    let mut w = FrameWriter::new();
    w.put(b"ab");
    w.splice(5);
    w.put(b"c");
    assert_eq!(w.splices(), [Splice { position: 2, len: 5 }]);
    assert_eq!(w.segments().collect::<Vec<_>>(), [&b"ab"[..], b"c"]);
    assert_eq!(w.total_len(), 8);
    w.clear();
    assert_eq!(w.segments().collect::<Vec<_>>(), [b""]);
    assert_eq!(w.total_len(), 0);
}

#[test]
fn records_are_read_as_a_part_of_the_frame() {
    let frame = SharedBytes::from(vec![4, 1, 2, 3, 9]);
    let mut r = FrameReader::new(&frame);
    let Records::Inline(records) = Records::read(&mut r, FLEXIBLE).unwrap() else { panic!("no records") };
    assert_eq!(*records, [1, 2, 3]);
    assert_eq!(records.as_ptr(), frame[1..].as_ptr());
    assert_eq!(r.remaining(), 1);
    assert_eq!(*records.slice(1..3).unwrap(), [2, 3]);
    assert!(records.slice(1..4).is_none(), "a part cannot reach beyond itself");
    assert!(records.slice(4..usize::MAX).is_none());
    assert!(frame.into_buffer().is_none(), "the records still need the buffer");
    assert_eq!(records.into_buffer(), Some(vec![4, 1, 2, 3, 9]));
}

#[test]
fn strings_longer_than_their_length_field_are_refused() {
    let long = "x".repeat(40_000);
    assert_eq!(long.write(&mut FrameWriter::new(), CLASSIC).unwrap_err().kind(), ErrorKind::InvalidInput);
    long.write(&mut FrameWriter::new(), FLEXIBLE).unwrap();
    assert!(request_frame(&ApiVersionsRequest::default(), 0, Some(&long)).is_err());
    assert!(read::<String>(&[3, 0xff, 0xff], FLEXIBLE).is_err(), "not UTF-8");
}

fn offers(ranges: &[(i16, i16, i16)]) -> VersionTable {
    VersionTable::new(&ApiVersionsResponse {
        api_keys: ranges
            .iter()
            .map(|&(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version })
            .collect(),
        finalized_features_epoch: 3,
        finalized_features: vec![FinalizedFeatureKey {
            name: "transaction.version".into(),
            max_version_level: 2,
            min_version_level: 2,
        }],
        ..Default::default()
    })
}

#[test]
fn the_highest_common_version_is_chosen() {
    // Out of order, as a broker may list them.
    let table = offers(&[(22, 0, 3), (0, 0, 99), (3, 12, 12), (1, 0, 3), (2, 12, 20), (19, 5, 4)]);
    assert_eq!(table.choose::<ProduceRequest>().unwrap(), 13);
    assert_eq!(table.choose_at_most::<ProduceRequest>(12).unwrap(), 12);
    assert_eq!(table.choose::<InitProducerIdRequest>().unwrap(), 3);
    assert_eq!(table.choose::<MetadataRequest>().unwrap(), 12);
    // A range below ours, one above it, an empty one, a missing one, and limits below the broker's range and ours.
    assert!(table.choose::<FetchRequest>().is_err());
    assert!(table.choose::<ListOffsetsRequest>().is_err());
    assert!(table.choose::<CreateTopicsRequest>().is_err());
    assert!(table.choose::<DeleteTopicsRequest>().is_err());
    assert!(table.choose_at_most::<ProduceRequest>(2).is_err());
    assert!(table.choose_at_most::<MetadataRequest>(11).is_err());
    assert_eq!(table.finalized("transaction.version"), 2);
    assert!(table.has_transactions_v2());
    assert!(!VersionTable::default().has_transactions_v2());
    assert_eq!(table.finalized("metadata.version"), 0);
}

#[test]
fn a_version_error_names_the_api_and_both_ranges() {
    let error = offers(&[(1, 0, 3)]).choose::<FetchRequest>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
    assert_eq!(
        error.to_string(),
        "no common version of Fetch: this client speaks versions 4 to 18, the broker offers versions 0 to 3"
    );
    let error = offers(&[]).choose::<FetchRequest>().unwrap_err();
    assert!(error.to_string().ends_with("the broker does not offer it"), "{error}");
}

#[test]
fn an_api_versions_answer_of_an_older_broker_is_understood() {
    let response = ApiVersionsResponse {
        error_code: 35,
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 2 }],
        ..Default::default()
    };
    // At version 0, whatever the request's version was.
    let frame = response_frame::<ApiVersionsRequest>(&response, 0).unwrap();
    assert_eq!(decode_api_versions(frame.into(), 4).unwrap(), (7, response.clone()));
    // And at the request's version, in case that a broker answers so.
    let frame = response_frame::<ApiVersionsRequest>(&response, 4).unwrap();
    assert_eq!(decode_api_versions(frame.into(), 4).unwrap(), (7, response.clone()));
    let response = ApiVersionsResponse { error_code: 0, ..response };
    let frame = response_frame::<ApiVersionsRequest>(&response, 4).unwrap();
    assert_eq!(decode_api_versions(frame.into(), 4).unwrap(), (7, response));
}

#[test]
fn metadata_asks_for_all_topics_or_some() {
    for version in MetadataRequest::VERSIONS {
        let (_, all) =
            read_request::<MetadataRequest>(&request_frame(&MetadataRequest::all(), version, None).unwrap(), version)
                .unwrap();
        assert_eq!((all.topics, all.allow_auto_topic_creation), (None, false));
        let some = MetadataRequest::named(["a", "b"], true);
        let frame = request_frame(&some, version, None).unwrap();
        assert_eq!(read_request::<MetadataRequest>(&frame, version).unwrap().1, some);
    }
    for version in DeleteTopicsRequest::VERSIONS {
        request_frame(&DeleteTopicsRequest::named(["a"], 1000, version), version, None).unwrap();
    }
}

#[test]
fn one_coordinator_is_asked_for_at_any_version() {
    for version in FindCoordinatorRequest::VERSIONS {
        // Version 0 knows only groups.
        let (key_type, number) = if version == 0 { (KeyType::Group, 0) } else { (KeyType::Transaction, 1) };
        let request = FindCoordinatorRequest::of(key_type, "id", version);
        let frame = request_frame(&request, version, None).unwrap();
        let (_, read) = read_request::<FindCoordinatorRequest>(&frame, version).unwrap();
        assert_eq!((&read, read.key_type), (&request, number));

        let of = |key: &str, node_id| Coordinator { key: key.into(), node_id, port: 9092, ..Default::default() };
        let response = match version {
            ..4 => FindCoordinatorResponse { node_id: 3, port: 9092, ..Default::default() },
            4.. => FindCoordinatorResponse { coordinators: vec![of("other", 2), of("id", 3)], ..Default::default() },
        };
        let frame = response_frame::<FindCoordinatorRequest>(&response, version).unwrap();
        let (_, read) = read_response::<FindCoordinatorRequest>(&frame, version).unwrap();
        assert_eq!(read.into_coordinator("id", version), Some(of("id", 3)));
    }
    assert_eq!(FindCoordinatorResponse::default().into_coordinator("id", 4), None);
}
