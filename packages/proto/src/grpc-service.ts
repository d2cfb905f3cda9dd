// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Describes a gRPC method to grpc-js with our codecs. Two protobufjs are in the tree (grpc-js brings an
// older one for loading .proto files): only bytes and plain functions cross over to it, never its objects.

import type {
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
} from '@grpc/grpc-js';
import type { Codec } from './codec.ts';

/**
 * A method as grpc-js wants it in a ServiceDefinition, with separate types for what is encoded (`Init`:
 * defaults may be left out) and what was decoded.
 */
export interface RpcMethod<
  RequestInit,
  Request,
  ResponseInit,
  Response,
  RequestStream extends boolean,
  ResponseStream extends boolean,
> {
  /** "/tandem.v1.Sync/Policy" */
  readonly path: string;
  readonly requestStream: RequestStream;
  readonly responseStream: ResponseStream;
  readonly requestSerialize: (message: RequestInit) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Request;
  readonly responseSerialize: (message: ResponseInit) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

/** The server's handler of a method. */
export type RpcHandler<Method> =
  Method extends RpcMethod<
    infer _RequestInit,
    infer Request,
    infer ResponseInit,
    infer _Response,
    infer RequestStream,
    infer ResponseStream
  >
    ? RequestStream extends true
      ? ResponseStream extends true
        ? handleBidiStreamingCall<Request, ResponseInit>
        : handleClientStreamingCall<Request, ResponseInit>
      : ResponseStream extends true
        ? handleServerStreamingCall<Request, ResponseInit>
        : handleUnaryCall<Request, ResponseInit>
    : never;

/** A handler for each method of a service. */
export type ServiceHandlers<Service> = {
  readonly [Name in keyof Service]: RpcHandler<Service[Name]>;
};

/** A Buffer over the same memory. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Makes a method out of the codecs of its two messages. For the generated file `services.ts`. */
export function rpcMethod<
  RequestInit,
  Request,
  ResponseInit,
  Response,
  RequestStream extends boolean,
  ResponseStream extends boolean,
>(
  path: string,
  request: Codec<RequestInit, Request>,
  response: Codec<ResponseInit, Response>,
  requestStream: RequestStream,
  responseStream: ResponseStream,
): RpcMethod<RequestInit, Request, ResponseInit, Response, RequestStream, ResponseStream> {
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: (message) => asBuffer(request.encode(message)),
    requestDeserialize: (bytes) => request.decode(bytes),
    responseSerialize: (message) => asBuffer(response.encode(message)),
    responseDeserialize: (bytes) => response.decode(bytes),
  };
}
