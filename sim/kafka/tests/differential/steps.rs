//! Random steps.

use crate::configs::{Resource, alter_all};
use crate::draw::Draw;

/// How many topics there are names for, and partitions of each at most.
pub const TOPICS: usize = 3;
pub const PARTITIONS: i32 = 3;
/// Producers: the first are idempotent, the others transactional.
pub const IDEMPOTENT: usize = 2;
pub const PRODUCERS: usize = 5;
pub const GROUPS: usize = 3;

/// Whose records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Nobody,
    /// One of the producers, in its epoch and sequence, or others.
    Producer {
        place: usize,
        epoch: i16,
        sequence: i32,
    },
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    None,
    Checksum,
    Count(i32),
    LastOffset(i32),
    Cut,
    Twice,
    Control,
}

#[derive(Clone, Debug)]
pub struct Produce {
    pub topic: usize,
    pub partition: i32,
    pub acks: i16,
    pub version: i16,
    pub who: Who,
    pub count: i32,
    pub compression: i8,
    pub keyed: bool,
    /// Milliseconds after the begin of the test, of each record.
    pub times: Vec<i64>,
    pub damage: Damage,
    /// Bytes of each value.
    pub size: usize,
}

/// What a member of a group does.
#[derive(Clone, Copy, Debug)]
pub enum Member {
    Join {
        version: i16,
        timeout: i32,
    },
    /// Joins as a new process, which does not know its member id.
    Restart,
    Sync {
        generation: i32,
    },
    Beat {
        generation: i32,
    },
    BeatAs(&'static str),
    Commit {
        generation: i32,
        offset: i64,
    },
    Leave,
    /// Leaves under its instance id alone.
    LeaveAsInstance,
    Describe,
}

/// What a member of a group of the new protocol does; members are 0 and 1.
#[derive(Clone, Copy, Debug)]
pub enum Consumer {
    Join {
        member: usize,
        timeout: i32,
        topic: usize,
    },
    /// Joins as a new process, with another member id.
    Restart {
        member: usize,
        topic: usize,
    },
    Beat {
        member: usize,
        epoch: i32,
    },
    Commit {
        member: usize,
        epoch: i32,
    },
    Leave {
        member: usize,
        epoch: i32,
    },
    Describe,
}

#[derive(Clone, Debug)]
pub enum Step {
    Create {
        topic: usize,
        partitions: i32,
        replicas: i16,
        configs: Vec<(&'static str, &'static str)>,
        validate: bool,
    },
    CreateNamed(&'static str),
    Delete {
        topic: usize,
    },
    AddPartitions {
        topic: usize,
        count: i32,
        validate: bool,
    },
    Alter {
        topic: usize,
        operation: i8,
        config: (&'static str, &'static str),
    },
    /// Changes of several resources at once, incremental or in the old form, which replaces all of each.
    AlterAll {
        replaces: bool,
        version: i16,
        validate: bool,
        resources: Vec<Resource>,
    },
    DescribeConfigs {
        topic: usize,
    },
    Init {
        producer: usize,
        timeout: i32,
    },
    InitAs {
        producer: usize,
        epoch: i16,
    },
    Produce(Produce),
    /// Adds a partition as clients of the first protocol do.
    Add {
        producer: usize,
        topic: usize,
        partition: i32,
        epoch: i16,
    },
    End {
        producer: usize,
        commit: bool,
        version: i16,
        epoch: i16,
    },
    TxnOffsets {
        producer: usize,
        group: usize,
        topic: usize,
        partition: i32,
        offset: i64,
        version: i16,
    },
    DescribeTransaction {
        producer: usize,
    },
    DescribeProducers {
        topic: usize,
        partition: i32,
    },
    DeleteRecords {
        topic: usize,
        partition: i32,
        offset: i64,
    },
    Offsets {
        topic: usize,
        partition: i32,
        time: i64,
        isolation: i8,
        version: i16,
    },
    Epochs {
        topic: usize,
        partition: i32,
        epoch: i32,
    },
    Fetch {
        topic: usize,
        partition: i32,
        offset: i64,
        isolation: i8,
        version: i16,
        bytes: i32,
    },
    Commit {
        group: usize,
        topic: usize,
        partition: i32,
        offset: i64,
        version: i16,
    },
    Committed {
        group: usize,
        stable: bool,
        version: i16,
    },
    DeleteOffsets {
        group: usize,
        topic: usize,
        partition: i32,
    },
    DeleteGroup {
        group: usize,
    },
    Classic {
        group: usize,
        /// The instance id of a static member.
        instance: Option<usize>,
        steps: Vec<Member>,
    },
    Consumer {
        group: usize,
        /// Whether the members are static.
        is_static: bool,
        steps: Vec<Consumer>,
    },
    /// A broker, from 0, is killed; or the one that is down is started.
    Kill(usize),
    Start,
}

impl Step {
    /// The topics whose batches brokers may compress themselves from now on, with libraries of their own.
    pub fn compressed(&self) -> Vec<usize> {
        let compresses = |name: &str| name == "compression.type";
        match self {
            Step::Create { topic, configs, .. } if configs.iter().any(|(name, _)| compresses(name)) => {
                vec![*topic]
            }
            Step::Alter { topic, config: (name, _), .. } if compresses(name) => vec![*topic],
            Step::AlterAll { resources, .. } => {
                let topics = resources.iter().filter_map(|resource| match resource {
                    Resource::Topic(topic, changes) => {
                        changes.iter().any(|(_, name, _)| compresses(name)).then_some(*topic)
                    }
                    Resource::Other(..) => None,
                });
                topics.collect()
            }
            _ => Vec::new(),
        }
    }
}

pub const CONFIGS: [(&str, &str); 30] = [
    ("cleanup.policy", "compact"),
    ("cleanup.policy", "nonsense"),
    ("cleanup.policy", "delete,compact"),
    ("cleanup.policy", ""),
    ("max.message.bytes", "1000"),
    ("max.message.bytes", "-1"),
    ("max.message.bytes", "lots"),
    ("message.timestamp.type", "LogAppendTime"),
    ("message.timestamp.type", "CreateTime"),
    ("message.timestamp.type", "Never"),
    ("min.insync.replicas", "3"),
    ("min.insync.replicas", "1"),
    ("min.insync.replicas", "0"),
    ("compression.type", "gzip"),
    ("compression.type", "lz4"),
    ("compression.type", "zstd"),
    ("compression.type", "producer"),
    ("compression.type", "uncompressed"),
    ("compression.type", "best"),
    ("segment.bytes", "1048576"),
    ("segment.bytes", "14"),
    ("segment.bytes", "a"),
    ("retention.ms", "-1"),
    ("retention.ms", "-2"),
    ("retention.bytes", "-1"),
    ("message.timestamp.after.max.ms", "1000"),
    ("message.timestamp.before.max.ms", "36000000"),
    ("no.such.config", "1"),
    ("unclean.leader.election.enable", "maybe"),
    ("delete.retention.ms", "60000"),
];

const NAMES: [&str; 6] = ["", ".", "..", "a b", "ä", "__consumer_offsets"];

/// With `kills`, not what only the leader remembers of a transaction that it has yet to verify: the lowest sequence number and the
/// greatest epoch that it has seen (`VerificationStateEntry`). Which partitions a killed broker led is not the same on both sides.
fn who(draw: &mut Draw, kills: bool) -> Who {
    if draw.chance(25) {
        return Who::Nobody;
    }
    let (mut epoch, mut sequence) = (0, 0);
    if draw.chance(8) {
        epoch = draw.pick(&[-1, 1, 2]);
    }
    if draw.chance(12) {
        sequence = draw.pick(&[-1, -3, 1, 5, -20]);
    }
    let place = draw.below(PRODUCERS);
    if kills && place >= IDEMPOTENT {
        (epoch, sequence) = (epoch.min(0), sequence.max(0));
    }
    Who::Producer { place, epoch, sequence }
}

fn produce(draw: &mut Draw, kills: bool) -> Produce {
    let count = draw.pick(&[1, 1, 2, 3, 5]);
    let times = (0..count).map(|_| {
        let odd = draw.chance(3);
        if odd { draw.pick(&[-86_400_000, 10_800_000, 5_000]) } else { draw.below(1000) as i64 }
    });
    let times = times.collect();
    let damage = match draw.below(100) {
        0..2 => Damage::Checksum,
        2 => Damage::Count(draw.pick(&[0, -1, 7])),
        3 => Damage::LastOffset(draw.pick(&[0, -1, 7])),
        4 => Damage::Cut,
        5 => Damage::Twice,
        6 => Damage::Control,
        _ => Damage::None,
    };
    Produce {
        topic: draw.below(TOPICS),
        partition: draw.below(PARTITIONS as usize) as i32 + i32::from(draw.chance(2)) * 5,
        acks: if draw.chance(1) { 2 } else { draw.pick(&[-1, -1, -1, 1, 1, 0]) },
        version: draw.pick(&[3, 6, 7, 9, 11, 12, 12, 12]),
        who: who(draw, kills),
        count,
        compression: draw.pick(&[0, 0, 0, 1, 2, 3, 4]),
        keyed: draw.chance(70),
        times,
        damage,
        size: draw.pick(&[0, 10, 10, 100, 600]),
    }
}

fn classic(draw: &mut Draw) -> Step {
    let instance = draw.chance(40).then(|| draw.below(2));
    let version = if instance.is_some() { draw.pick(&[5, 9]) } else { draw.pick(&[0, 2, 3, 5, 9]) };
    let mut steps = vec![
        Member::Join { version, timeout: draw.pick(&[10_000, 10_000, 10_000, 1, 10_000_000]) },
        Member::Sync { generation: draw.pick(&[0, 0, 0, 1, -1]) },
    ];
    for _ in 0..draw.below(6) {
        steps.push(match draw.below(7) {
            0 if instance.is_some() && draw.chance(60) => Member::Restart,
            0 => Member::Join { version: 5, timeout: 10_000 },
            1 => Member::Sync { generation: draw.pick(&[0, 0, 1]) },
            2 => Member::Beat { generation: draw.pick(&[0, 0, -1, 1]) },
            3 => Member::BeatAs(draw.pick(&["", "nobody"])),
            4 => Member::Leave,
            5 => Member::Describe,
            _ => Member::Commit { generation: draw.pick(&[0, 0, 0, 1]), offset: draw.below(50) as i64 },
        });
    }
    steps.push(Member::Leave);
    if instance.is_some() {
        steps.push(Member::LeaveAsInstance);
    }
    steps.push(Member::Describe);
    Step::Classic { group: draw.below(GROUPS), instance, steps }
}

fn consumer(draw: &mut Draw) -> Step {
    let topic = draw.below(TOPICS);
    let is_static = draw.chance(40);
    let mut steps = vec![Consumer::Join { member: 0, timeout: 60_000, topic }];
    for _ in 0..1 + draw.below(8) {
        let member = draw.below(2);
        let epoch = if draw.chance(15) { draw.pick(&[-1, 1, 5]) } else { 0 };
        steps.push(match draw.below(10) {
            0 if is_static => Consumer::Restart { member, topic },
            0..2 => Consumer::Join { member, timeout: draw.pick(&[60_000, 60_000, 0, -1]), topic },
            2..6 => Consumer::Beat { member, epoch },
            6..8 => Consumer::Commit { member, epoch },
            8 => Consumer::Describe,
            _ => Consumer::Leave {
                member,
                epoch: if is_static { draw.pick(&[-1, -2, -2]) } else { draw.pick(&[-1, -1, -2]) },
            },
        });
    }
    steps.push(Consumer::Leave { member: 0, epoch: -1 });
    steps.push(Consumer::Leave { member: 1, epoch: -1 });
    steps.push(Consumer::Describe);
    Step::Consumer { group: GROUPS + draw.below(GROUPS), is_static, steps }
}

/// The next step. `kills` is whether brokers may be killed.
pub fn step(draw: &mut Draw, kills: bool) -> Step {
    let topic = draw.below(TOPICS);
    let partition = draw.below(PARTITIONS as usize) as i32 + i32::from(draw.chance(3)) * 7;
    let transactional = IDEMPOTENT + draw.below(PRODUCERS - IDEMPOTENT);
    let epoch = if draw.chance(6) { draw.pick(&[-1, 1]) } else { 0 };
    let group = draw.below(2 * GROUPS);
    let offset = draw.pick(&[-1, 0, 1, 2, 5, 10, 20, 40, 1000]);
    match draw.below(1000) {
        0..25 => {
            let mut configs = Vec::new();
            while draw.chance(30) {
                let config = draw.pick(&CONFIGS);
                if configs.iter().all(|(name, _)| *name != config.0) {
                    configs.push(config);
                }
            }
            Step::Create {
                topic,
                partitions: draw.pick(&[1, 2, 3, 3, 3, -1, 0, -2]),
                replicas: if kills { 3 } else { draw.pick(&[3, 3, 3, -1, 1, 2, 0, 4]) },
                configs,
                validate: draw.chance(15),
            }
        }
        25..28 => Step::CreateNamed(draw.pick(&NAMES)),
        28..34 => Step::Delete { topic },
        34..40 => {
            Step::AddPartitions { topic, count: draw.pick(&[0, 1, 2, 3, 3, -1]), validate: draw.chance(20) }
        }
        40..50 => alter_all(draw),
        50..60 => {
            Step::Alter { topic, operation: draw.pick(&[0, 0, 0, 1, 2, 3]), config: draw.pick(&CONFIGS) }
        }
        60..70 => Step::DescribeConfigs { topic },
        70..90 => Step::Init {
            producer: draw.below(PRODUCERS),
            timeout: draw.pick(&[600_000, 600_000, 600_000, 600_000, 0, -1, 10_000_000]),
        },
        90..96 => Step::InitAs { producer: draw.below(PRODUCERS), epoch: draw.pick(&[0, 0, -1, 1]) },
        96..430 => Step::Produce(produce(draw, kills)),
        430..460 => Step::Add { producer: transactional, topic, partition, epoch },
        460..540 => Step::End {
            producer: transactional,
            commit: draw.chance(60),
            version: draw.pick(&[3, 4, 5, 5, 5]),
            epoch,
        },
        540..570 => Step::TxnOffsets {
            producer: transactional,
            group: draw.below(GROUPS),
            topic,
            partition,
            offset,
            version: draw.pick(&[3, 5, 5]),
        },
        570..580 => Step::DescribeTransaction { producer: transactional },
        580..600 => Step::DescribeProducers { topic, partition },
        600..620 => Step::DeleteRecords { topic, partition, offset },
        620..700 => Step::Offsets {
            topic,
            partition,
            time: draw.pick(&[-1, -1, -2, -3, -4, -5, -6, 0, 300, 700, 2000]),
            isolation: draw.pick(&[0, 1]),
            version: draw.pick(&[1, 2, 5, 7, 8, 10]),
        },
        700..715 => Step::Epochs { topic, partition, epoch: draw.pick(&[-1, 0, 1, 2, 9]) },
        715..840 => Step::Fetch {
            topic,
            partition,
            offset,
            isolation: draw.pick(&[0, 1, 1]),
            version: draw.pick(&[4, 11, 12]),
            bytes: draw.pick(&[1, 200, 1 << 20, 1 << 20]),
        },
        840..880 => Step::Commit { group, topic, partition, offset, version: draw.pick(&[2, 5, 7, 8, 9]) },
        880..910 => Step::Committed { group, stable: draw.chance(40), version: draw.pick(&[5, 7, 8, 9]) },
        910..916 => Step::DeleteOffsets { group, topic, partition },
        916..921 => Step::DeleteGroup { group },
        921..945 => classic(draw),
        945..970 => consumer(draw),
        970..976 if kills => Step::Kill(draw.below(3)),
        976..990 if kills => Step::Start,
        _ => Step::Fetch { topic, partition, offset: 0, isolation: 1, version: 12, bytes: 1 << 20 },
    }
}
