package org.apache.kafka.coordinator.group;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ConsumerGroupDescribeResponseData;
import org.apache.kafka.common.message.ConsumerGroupHeartbeatRequestData;
import org.apache.kafka.common.message.ConsumerGroupHeartbeatResponseData;
import org.apache.kafka.common.message.DescribeGroupsResponseData;
import org.apache.kafka.common.message.HeartbeatRequestData;
import org.apache.kafka.common.message.HeartbeatResponseData;
import org.apache.kafka.common.message.JoinGroupRequestData;
import org.apache.kafka.common.message.JoinGroupResponseData;
import org.apache.kafka.common.message.LeaveGroupRequestData;
import org.apache.kafka.common.message.LeaveGroupResponseData;
import org.apache.kafka.common.message.SyncGroupRequestData;
import org.apache.kafka.common.message.SyncGroupResponseData;
import org.apache.kafka.common.metadata.PartitionRecord;
import org.apache.kafka.common.metadata.RemoveTopicRecord;
import org.apache.kafka.common.metadata.TopicRecord;
import org.apache.kafka.common.network.ClientInformation;
import org.apache.kafka.common.network.ListenerName;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.requests.JoinGroupRequest;
import org.apache.kafka.common.requests.JoinGroupResponse;
import org.apache.kafka.common.requests.RequestContext;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.common.runtime.CoordinatorResult;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.image.MetadataDelta;
import org.apache.kafka.image.MetadataImage;
import org.apache.kafka.image.MetadataProvenance;
import org.mockito.MockedStatic;
import org.mockito.Mockito;

/**
 * Kafka's own GroupMetadataManager, driven by lines on standard input. A request and its response are in hexadecimal; those of
 * ConsumerGroupHeartbeat and ConsumerGroupDescribe are in version 1, others say their version. JoinGroup and SyncGroup may be
 * answered later: "answers" returns all responses since the last one.
 */
public class Groups {
    private static final short VERSION = 1;

    private GroupMetadataManagerTestContext context;
    private MetadataImage image;
    private long version;
    private final List<Open> open = new ArrayList<>();
    /** What the next member id begins with. */
    private String prefix = "";
    private long ids;

    /** A request that may not have been answered yet. */
    private record Open(String token, short version, CompletableFuture<? extends Message> response) { }

    public static void main(String[] arguments) throws Exception {
        Groups groups = new Groups();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        try (MockedStatic<UUID> random = Mockito.mockStatic(UUID.class, Mockito.CALLS_REAL_METHODS)) {
            random.when(UUID::randomUUID).thenAnswer(invocation -> groups.nextId());
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                // The JVM and Mockito may warn on the same stream.
                System.out.println("> " + groups.execute(line.split(" ")));
                System.out.flush();
            }
        }
    }

    /**
     * An id with which a member has the place among the members that its prefix names: a classic group iterates over a HashMap,
     * in the order of the lowest bits of the hashes, and another one over a TimelineHashMap, in that of the highest bits of
     * their products with a constant (BaseHashTable.findSlot).
     */
    private UUID nextId() {
        int place = prefix.matches("k\\d\\d-.*") ? Integer.parseInt(prefix.substring(1, 3)) : 0;
        while (true) {
            ids += 1;
            // With the bits of a random one.
            UUID id = new UUID(0x4000L, Long.MIN_VALUE | ids);
            int hash = (prefix + "-" + id).hashCode();
            boolean inTimeline = (int) ((hash * -7046029254386353131L) >>> 60) == place;
            if (inTimeline && ((hash ^ (hash >>> 16)) & 15) == place) {
                return id;
            }
        }
    }

    private String execute(String[] fields) {
        switch (fields[0]) {
            case "new":
                image = MetadataImage.EMPTY;
                version = 0;
                open.clear();
                context = new GroupMetadataManagerTestContext.Builder()
                    .withConfig(GroupCoordinatorConfig.CONSUMER_GROUP_ASSIGNORS_CONFIG,
                        fields[2].equals("range") ? List.of(new RangeAssignor(), new UniformAssignor())
                            : List.of(new UniformAssignor(), new RangeAssignor()))
                    .withConfig(GroupCoordinatorConfig.GROUP_MAX_SIZE_CONFIG, Integer.parseInt(fields[1]))
                    .build();
                return "ok";
            case "topics":
                topics(fields);
                return "ok";
            case "pass":
                return pass(Long.parseLong(fields[1]));
            case "join":
                join(fields[1], Short.parseShort(fields[2]), fields[3], HexFormat.of().parseHex(fields[4]));
                return "ok";
            case "sync":
                sync(fields[1], Short.parseShort(fields[2]), HexFormat.of().parseHex(fields[3]));
                return "ok";
            case "beat":
                return beat(Short.parseShort(fields[1]), HexFormat.of().parseHex(fields[2]));
            case "leave":
                return leave(Short.parseShort(fields[1]), HexFormat.of().parseHex(fields[2]));
            case "describe-classic":
                return hex(new DescribeGroupsResponseData().setGroups(context.describeGroups(List.of(fields[1]))),
                    ApiKeys.DESCRIBE_GROUPS.latestVersion());
            case "last-id":
                return String.valueOf(ids);
            case "answers":
                return answers();
            case "heartbeat":
                return hex(heartbeat(HexFormat.of().parseHex(fields[1])), VERSION);
            case "describe":
                return hex(new ConsumerGroupDescribeResponseData()
                    .setGroups(context.sendConsumerGroupDescribe(List.of(fields[1]))), VERSION);
            default:
                throw new IllegalArgumentException(fields[0]);
        }
    }

    /**
     * Lets milliseconds pass, one by one. What is due at the same time does not see each other's effects in this context, as it
     * would in a broker: "at once" if there was more than one with effects.
     */
    private String pass(long milliseconds) {
        boolean atOnce = false;
        for (long left = milliseconds; left > 0; left--) {
            try {
                var due = context.sleep(1);
                due.forEach(timeout -> append(timeout.result));
                atOnce |= due.stream().filter(timeout -> !timeout.result.records().isEmpty()).count() > 1;
            } catch (IllegalStateException error) {
                return "at once";
            }
            context.commit();
        }
        return atOnce ? "at once" : "ok";
    }

    private static RequestContext from(ApiKeys key, short version, String clientId) {
        try {
            InetAddress address = InetAddress.getByAddress(new byte[] {127, 0, 0, 1});
            return new RequestContext(new RequestHeader(key, version, clientId, 0), "1", address,
                KafkaPrincipal.ANONYMOUS, ListenerName.forSecurityProtocol(SecurityProtocol.PLAINTEXT),
                SecurityProtocol.PLAINTEXT, ClientInformation.EMPTY, false);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    /** The records of a result have been written and are committed. Those that have been replayed are written already. */
    private void append(CoordinatorResult<?, CoordinatorRecord> result) {
        if (!result.replayRecords()) {
            result.records().forEach(record -> {
                context.lastWrittenOffset += 1;
                context.snapshotRegistry.idempotentCreateSnapshot(context.lastWrittenOffset);
            });
        }
        context.commit();
        if (result.appendFuture() != null) {
            result.appendFuture().complete(null);
        }
    }

    private void replay(CoordinatorResult<?, CoordinatorRecord> result) {
        if (result.replayRecords()) {
            result.records().forEach(context::replay);
        }
        append(result);
    }

    private void join(String token, short version, String clientId, byte[] bytes) {
        JoinGroupRequestData read = new JoinGroupRequestData(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), version);
        JoinGroupRequestData request = new JoinGroupRequest(read, version).data();
        prefix = request.groupInstanceId() == null ? clientId : request.groupInstanceId();
        CompletableFuture<JoinGroupResponseData> response = new CompletableFuture<>();
        open.add(new Open(token, version, response.thenApply(data -> new JoinGroupResponse(data, version).data())));
        try {
            replay(context.groupMetadataManager.classicGroupJoin(from(ApiKeys.JOIN_GROUP, version, clientId), request,
                response));
        } catch (Exception error) {
            // As GroupCoordinatorService.joinGroup does, which the next ones follow, too.
            context.rollback();
            response.complete(new JoinGroupResponseData().setErrorCode(Errors.forException(error).code()));
        }
    }

    private void sync(String token, short version, byte[] bytes) {
        SyncGroupRequestData request = new SyncGroupRequestData(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), version);
        CompletableFuture<SyncGroupResponseData> response = new CompletableFuture<>();
        open.add(new Open(token, version, response));
        try {
            replay(context.groupMetadataManager.classicGroupSync(from(ApiKeys.SYNC_GROUP, version, "client"), request,
                response));
        } catch (Exception error) {
            context.rollback();
            response.complete(new SyncGroupResponseData().setErrorCode(Errors.forException(error).code()));
        }
    }

    private String beat(short version, byte[] bytes) {
        HeartbeatRequestData request = new HeartbeatRequestData(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), version);
        HeartbeatResponseData response;
        try {
            CoordinatorResult<HeartbeatResponseData, CoordinatorRecord> result =
                context.groupMetadataManager.classicGroupHeartbeat(from(ApiKeys.HEARTBEAT, version, "client"), request);
            response = result.response();
            replay(result);
        } catch (Exception error) {
            context.rollback();
            response = new HeartbeatResponseData().setErrorCode(Errors.forException(error).code());
        }
        return hex(response, version);
    }

    private String leave(short version, byte[] bytes) {
        LeaveGroupRequestData request = new LeaveGroupRequestData(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), version);
        LeaveGroupResponseData response;
        try {
            CoordinatorResult<LeaveGroupResponseData, CoordinatorRecord> result =
                context.groupMetadataManager.classicGroupLeave(from(ApiKeys.LEAVE_GROUP, version, "client"), request);
            response = result.response();
            replay(result);
        } catch (Exception error) {
            context.rollback();
            short code = Errors.forException(error).code();
            response = new LeaveGroupResponseData();
            if (code == Errors.UNKNOWN_MEMBER_ID.code()) {
                response.setMembers(request.members().stream().map(member -> new LeaveGroupResponseData.MemberResponse()
                    .setMemberId(member.memberId())
                    .setGroupInstanceId(member.groupInstanceId())
                    .setErrorCode(code)).collect(Collectors.toList()));
            } else {
                response.setErrorCode(code);
            }
        }
        return hex(response, version);
    }

    /** The responses since the last call, each as token:response. */
    private String answers() {
        List<Open> answered = open.stream().filter(one -> one.response().isDone()).toList();
        open.removeAll(answered);
        return answered.stream()
            .map(one -> one.token() + ":" + hex(one.response().join(), one.version()))
            .collect(Collectors.joining(" "));
    }

    private ConsumerGroupHeartbeatResponseData heartbeat(byte[] bytes) {
        ConsumerGroupHeartbeatRequestData request =
            new ConsumerGroupHeartbeatRequestData(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), VERSION);
        ConsumerGroupHeartbeatResponseData response;
        try {
            CoordinatorResult<ConsumerGroupHeartbeatResponseData, CoordinatorRecord> result =
                context.consumerGroupHeartbeat(request);
            response = result.response();
            append(result);
        } catch (Exception error) {
            response = new ConsumerGroupHeartbeatResponseData()
                .setErrorCode(Errors.forException(error).code())
                .setErrorMessage(error.getMessage());
            context.rollback();
        }
        context.processTasks();
        context.commit();
        return response;
    }

    /** The topics that there are from now on, as name:id:partitions. */
    private void topics(String[] fields) {
        MetadataDelta delta = new MetadataDelta(image);
        Map<Uuid, Integer> wanted = new HashMap<>();
        for (int place = 1; place < fields.length; place++) {
            String[] parts = fields[place].split(":");
            Uuid id = new Uuid(0, Long.parseLong(parts[1]));
            int count = Integer.parseInt(parts[2]);
            wanted.put(id, count);
            int had = 0;
            if (image.topics().getTopic(id) == null) {
                delta.replay(new TopicRecord().setTopicId(id).setName(parts[0]));
            } else {
                had = image.topics().getTopic(id).partitions().size();
            }
            for (int index = had; index < count; index++) {
                delta.replay(new PartitionRecord().setTopicId(id).setPartitionId(index).setReplicas(List.of(1)));
            }
        }
        image.topics().topicsById().keySet().forEach(id -> {
            if (!wanted.containsKey(id)) {
                delta.replay(new RemoveTopicRecord().setTopicId(id));
            }
        });
        version += 1;
        image = delta.apply(new MetadataProvenance(version, 0, 0L, true));
        context.groupMetadataManager.onNewMetadataImage(image, delta);
    }

    private static String hex(Message message, short version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return HexFormat.of().formatHex(bytes);
    }
}
