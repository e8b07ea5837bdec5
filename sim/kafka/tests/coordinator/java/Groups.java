package org.apache.kafka.coordinator.group;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ConsumerGroupDescribeResponseData;
import org.apache.kafka.common.message.ConsumerGroupHeartbeatRequestData;
import org.apache.kafka.common.message.ConsumerGroupHeartbeatResponseData;
import org.apache.kafka.common.metadata.PartitionRecord;
import org.apache.kafka.common.metadata.RemoveTopicRecord;
import org.apache.kafka.common.metadata.TopicRecord;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.image.MetadataDelta;
import org.apache.kafka.image.MetadataImage;
import org.apache.kafka.image.MetadataProvenance;

/**
 * Kafka's own GroupMetadataManager, driven by lines on standard input. A request and its response are in hexadecimal, in
 * version 1 of ConsumerGroupHeartbeat and ConsumerGroupDescribe.
 */
public class Groups {
    private static final short VERSION = 1;

    private GroupMetadataManagerTestContext context;
    private MetadataImage image;
    private long version;

    public static void main(String[] arguments) throws Exception {
        Groups groups = new Groups();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(groups.execute(line.split(" ")));
            System.out.flush();
        }
    }

    private String execute(String[] fields) {
        switch (fields[0]) {
            case "new":
                image = MetadataImage.EMPTY;
                version = 0;
                context = new GroupMetadataManagerTestContext.Builder()
                    .withConfig(GroupCoordinatorConfig.CONSUMER_GROUP_ASSIGNORS_CONFIG,
                        List.of(new UniformAssignor(), new RangeAssignor()))
                    .build();
                return "ok";
            case "topics":
                topics(fields);
                return "ok";
            case "pass":
                // One by one, for what is due at the same time would not see each other's effects.
                for (long left = Long.parseLong(fields[1]); left > 0; left--) {
                    context.sleep(1);
                    context.commit();
                }
                return "ok";
            case "heartbeat":
                return hex(heartbeat(HexFormat.of().parseHex(fields[1])));
            case "describe":
                return hex(new ConsumerGroupDescribeResponseData()
                    .setGroups(context.sendConsumerGroupDescribe(List.of(fields[1]))));
            default:
                throw new IllegalArgumentException(fields[0]);
        }
    }

    private ConsumerGroupHeartbeatResponseData heartbeat(byte[] bytes) {
        ConsumerGroupHeartbeatRequestData request =
            new ConsumerGroupHeartbeatRequestData(new ByteBufferAccessor(ByteBuffer.wrap(bytes)), VERSION);
        ConsumerGroupHeartbeatResponseData response;
        try {
            response = context.consumerGroupHeartbeat(request).response();
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

    private static String hex(Message message) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, VERSION).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return HexFormat.of().formatHex(bytes);
    }
}
