// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Limits of our gRPC servers and clients, and the options of grpc-js that hold them. Both ends send
// keepalive pings: a peer that hangs (SIGSTOP, a long collection) leaves its socket open, and only silence
// shows it.

import type { ChannelOptions } from '@grpc/grpc-js';
import { grpcMessageBytesMax } from '@tandem/proto/limits';

/** Connections that a server holds at once; more are closed and counted. */
export const grpcConnectionsMax = 16;
/** Calls in progress on one connection. */
export const grpcStreamsMax = 32;
/** Silence after which a ping is sent, ms. */
export const grpcKeepaliveTimeMs = 5000;
/** Wait for the answer to a ping before the connection is given up, ms. */
export const grpcKeepaliveTimeoutMs = 5000;

/** Wait before a refused connection is tried again, ms: the first, and the longest. Every server is on this node. */
export const grpcReconnectMs = 100;
export const grpcReconnectMsMax = 1000;

export const grpcServerOptions: ChannelOptions = {
  'grpc.max_receive_message_length': grpcMessageBytesMax,
  'grpc.max_send_message_length': grpcMessageBytesMax,
  'grpc.max_concurrent_streams': grpcStreamsMax,
  'grpc.keepalive_time_ms': grpcKeepaliveTimeMs,
  'grpc.keepalive_timeout_ms': grpcKeepaliveTimeoutMs,
  'grpc.enable_channelz': 0,
};

export const grpcClientOptions: ChannelOptions = {
  'grpc.max_receive_message_length': grpcMessageBytesMax,
  'grpc.max_send_message_length': grpcMessageBytesMax,
  'grpc.keepalive_time_ms': grpcKeepaliveTimeMs,
  'grpc.keepalive_timeout_ms': grpcKeepaliveTimeoutMs,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': grpcReconnectMs,
  'grpc.max_reconnect_backoff_ms': grpcReconnectMsMax,
  // Retries are ours: every stream starts with a hello that says where it stopped.
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_channelz': 0,
};
