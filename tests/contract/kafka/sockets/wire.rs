//! Two requests that librdkafka's safe API does not offer, or not for a chosen broker.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kafka::backend::PartitionState;

const METADATA: i16 = 3;
const ELECT_LEADERS: i16 = 43;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A topic according to one broker: the state of each partition, by number; `None` if it does not know the topic.
pub struct TopicState {
    pub name: String,
    pub partitions: Option<Vec<PartitionState>>,
}

/// One topic, or all topics, according to one broker.
pub async fn metadata(address: &str, topic: Option<&str>) -> io::Result<Vec<TopicState>> {
    let mut body = Vec::new();
    match topic {
        Some(topic) => {
            body.extend(1_i32.to_be_bytes());
            put_string(&mut body, topic);
        }
        None => body.extend((-1_i32).to_be_bytes()),
    }
    let response = attempt(address, METADATA, 1, &body).await?;
    let mut response = ResponseReader { bytes: &response };
    for _ in 0..response.int32()? {
        response.int32()?;
        response.string()?;
        response.int32()?;
        response.string()?;
    }
    response.int32()?; // the controller
    let mut topics = Vec::new();
    for _ in 0..response.int32()? {
        let error = response.int16()?;
        let name = response.string()?;
        response.int8()?;
        let mut partitions = Vec::new();
        for _ in 0..response.int32()? {
            response.int16()?;
            let number = response.int32()?;
            let leader = response.int32()?;
            let replicas = response.int32s()?;
            let mut in_sync = response.int32s()?;
            in_sync.sort_unstable();
            let state = PartitionState { leader: (leader >= 0).then_some(leader), replicas, in_sync };
            partitions.push((number, state));
        }
        partitions.sort_unstable_by_key(|(number, _)| *number);
        let partitions = partitions.into_iter().map(|(_, state)| state).collect();
        topics.push(TopicState { name, partitions: (error == 0).then_some(partitions) });
    }
    Ok(topics)
}

/// Requests the preferred leader election of a partition; the broker forwards the request to the controller.
pub async fn elect_preferred(address: &str, topic: &str, partition: i32) -> io::Result<()> {
    let mut body = vec![0]; // preferred
    body.extend(1_i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    attempt(address, ELECT_LEADERS, 1, &body).await.map(|_| ())
}

fn put_string(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as i16).to_be_bytes());
    body.extend(text.as_bytes());
}

async fn attempt(address: &str, key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut connection = TcpStream::connect(address).await?;
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(1_i32.to_be_bytes());
        put_string(&mut frame, "contract");
        frame.extend(body);
        connection.write_i32(frame.len() as i32).await?;
        connection.write_all(&frame).await?;
        let length = connection.read_i32().await?;
        let mut response = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        connection.read_exact(&mut response).await?;
        Ok(response.split_off(4.min(response.len())))
    };
    tokio::time::timeout(TIMEOUT, exchange).await?
}

struct ResponseReader<'a> {
    bytes: &'a [u8],
}

impl ResponseReader<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn int8(&mut self) -> io::Result<i8> {
        self.take().map(i8::from_be_bytes)
    }

    fn int16(&mut self) -> io::Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> io::Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn int32s(&mut self) -> io::Result<Vec<i32>> {
        (0..self.int32()?).map(|_| self.int32()).collect()
    }

    fn string(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bytes = rest;
        Ok(String::from_utf8_lossy(taken).into_owned())
    }
}
