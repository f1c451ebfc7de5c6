/** The test that goes one over each limit. `gateway/limits.test.ts` holds that it is there, `bun run mutate` that it goes red. */
import type { limits } from "../../gateway/limits.ts";

export interface NamedTest {
  /** Below `gateway/`. */
  readonly file: string;
  /** As in the source, from its first word on. */
  readonly name: string;
}

const test = (file: string, name: string): NamedTest => ({ file, name });
const connection = (name: string) => test("postgres/limits.live.test.ts", name);
const recording = (name: string) => test("recording/writer.test.ts", name);
const verifier = (name: string) => test("identity/verifier.test.ts", name);

export const limitTests: Readonly<Record<keyof typeof limits, NamedTest>> = {
  tokenBytesMax: verifier("refuses what is not a JWT before it decodes it"),
  claimDepthMax: verifier("refuses claims nested too deeply or not Unicode"),
  groupsMax: verifier("refuses groups that are not names, too many, or left out by reference"),
  jwksCooldownMs: verifier("finds a rotated key, but asks for keys no more than once a cooldown"),
  jwksMaxAgeMs: verifier("forgets a withdrawn key when the keys age"),
  identityFetchTimeoutMs: verifier("gives up an issuer that does not answer in time"),
  identityDocumentBytesMax: verifier("refuses a discovery document that is hostile"),
  identityRetryMs: verifier("refuses, rather than trusts old keys, while the issuer is unreachable, and recovers"),
  loginTimeoutMs: test("identity/login.test.ts", "a login that nobody completes ends in time, by device or browser"),
  expiryCheckMs: connection("a session is ended soon after its token expired"),

  connectionsMax: connection("one connection over the limit is refused, and one that ended makes room"),
  unauthenticatedConnectionsMax: connection("one connection too many that has not logged in is refused"),
  startupTimeoutMs: connection("who does not log in in time is told so and cut"),
  startupPacketBytesMax: connection("a start-up packet may be as long as the limit and not a byte longer"),
  loginMessageBytesMax: test(
    "gateway.live.test.ts",
    "a client that has not logged in may not make the gateway hold a large message",
  ),
  tlsHandshakeTimeoutMs: connection("a TLS handshake that is begun and not ended is cut"),

  clientMessageBytesMax: connection("a message may be as long as the limit and not a byte longer"),
  clientMessageStallMs: connection("a message that is begun and not ended is cut"),
  upstreamMessageBytesMax: connection("a target's message may be as long as the limit and not a byte longer"),
  columnsMax: test("postgres/codec.test.ts", "accepts as many columns as PostgreSQL has and not one more"),
  parametersMax: test("postgres/codec.test.ts", "refuses one parameter, type or format more than the limit"),
  errorFieldBytesMax: test("postgres/codec.test.ts", "cuts an error's field at its limit"),
  preparedStatementsMax: connection(
    "one prepared statement too many, or one character of their texts, ends the session",
  ),
  portalsMax: connection("one portal too many ends the session"),
  messagesInFlightMax: connection("messages past those that may be in flight wait, and all are answered"),
  portalParametersLengthMax: connection("a portal's parameters too many end the session, but what waits its turn"),
  syncsInCopyMax: connection("a Sync too many in a COPY ends the session; those before it count once the COPY fails"),
  preparedTextLengthMax: connection(
    "one prepared statement too many, or one character of their texts, ends the session",
  ),
  upstreamBufferBytesMax: connection("bytes that wait for the recording stop their client at the limit"),
  upstreamConnectTimeoutMs: test("postgres/upstream.live.test.ts", "is given up when it does not answer in time"),
  scramIterationsMax: test("postgres/scram.test.ts", "too many iterations"),
  upstreamStartupMessagesMax: test("postgres/upstream.live.test.ts", "never stops sending notices"),
  upstreamStartupMessageBytesMax: test(
    "postgres/upstream.live.test.ts",
    "may send a message as long as the limit before it is ready, and not a byte longer",
  ),
  catalogQueryBytesMax: connection(
    "what the gateway itself asks a target may be answered in so many bytes and no more",
  ),

  sqlTextBytesMax: test(
    "postgres/sql/parse.test.ts",
    "a text may be as long as the limit, in bytes of UTF-8, and not a byte longer",
  ),
  sqlDepthMax: test("postgres/sql/parse.test.ts", "brackets may be nested as deep as the limit and not one deeper"),
  statementsPerQueryMax: test(
    "postgres/sql/parse.test.ts",
    "a text may have as many statements as the limit and not one more",
  ),
  analysisStepsMax: test("postgres/sql/analyse.test.ts", "a command that takes too many steps is not understood"),
  analysisCacheEntriesMax: test(
    "postgres/sql/analyse.test.ts",
    "holds as many texts, and as much of their analysis, as its limits, and forgets the oldest",
  ),
  analysisCacheLengthMax: test(
    "postgres/sql/analyse.test.ts",
    "holds as many texts, and as much of their analysis, as its limits, and forgets the oldest",
  ),
  labelBindingsMax: test(
    "postgres/label-bindings.live.test.ts",
    "as many columns as the limit may have a label, and with one more names are not read",
  ),
  catalogRelationsMax: test(
    "postgres/sql/load-catalog.live.test.ts",
    "of a database with as many relations as the limit is read, and with one more refused",
  ),
  catalogRefreshMs: test(
    "postgres/sql/load-catalog.live.test.ts",
    "is looked at again once it is older than the limit",
  ),

  policyInputNamesMax: test("policy/policy.test.ts", "a command that names more than the limit is refused"),
  policyInputBytesMax: test("policy/policy.test.ts", "an input over the limit is refused"),
  policyMemoryPagesMax: test(
    "policy/policy.test.ts",
    "an evaluation that needs more memory than the limit is a fault, and the next works",
  ),
  policyEvaluationMs: test(
    "policy/policy.test.ts",
    "the watchdog ends a process whose evaluation hangs, and names the command",
  ),
  portalJudgementMsMax: connection("a portal that waited for its Execute is judged again, once it runs no more"),
  decisionCacheEntriesMax: test(
    "session/novelty.test.ts",
    "what memory has no room for is asked of the store again, and never forgotten",
  ),
  rateLogsMax: test(
    "session/rates.test.ts",
    "what no longer counts is forgotten, and what cannot be counted is refused",
  ),
  bundleBytesMax: test("policy/policy.test.ts", "that is larger than the limit, packed or unpacked, is refused"),
  policyTrialMs: test("policy/trial.test.ts", "a module that never ends does not hold up the process that tries it"),
  policySettleMs: test("policy/file-watch.test.ts", "waits until who writes is done"),
  policySettleMsMax: test("policy/file-watch.test.ts", "does not wait for ever for a file that never settles"),
  policyLookMs: test(
    "policy/file-watch.test.ts",
    "tells of a link's target that changes in a folder that is not watched",
  ),
  policyFetchTimeoutMs: test(
    "policy/server-source.test.ts",
    "a server that answers nothing, or begins and stops, is given up",
  ),
  policyRetryMs: test("policy/server-source.test.ts", "files that were refused are read again by themselves"),
  policyRetryMsMax: test(
    "policy/server-source.test.ts",
    "a failing server is asked no less often than the longest wait",
  ),

  approvalsPendingPerIdentityMax: test(
    "session/approvals.test.ts",
    "one held command too many of an identity is refused, another's is held, and one that ended makes room",
  ),
  approvalsPendingMax: test("session/approvals.test.ts", "one held command too many of all is refused, whoever asks"),
  approvalTextLengthMax: test(
    "session/session.test.ts",
    "is not more than anybody can read: a longer command is denied",
  ),
  approvalParameterLengthMax: test(
    "session/session.test.ts",
    "is the whole command: what it stands for, and each parameter on a line of its own",
  ),
  approvalTtlMsMax: test(
    "session/approvals.test.ts",
    "an approval lives no longer than the limit, whatever policy says",
  ),
  approvalPollMs: test("session/approvals.test.ts", "a decision made through another gateway is seen at the next look"),

  recordedTextBytesMax: test("session/session.test.ts", "a text and each parameter are recorded up to their limits"),
  recordedParameterBytesMax: test(
    "session/session.test.ts",
    "a text and each parameter are recorded up to their limits",
  ),
  recordedRowBytesPerCommand: test("config.test.ts", "what is not said is the limits' own"),
  recordedFieldLengthMax: test(
    "recording/redaction.test.ts",
    "a target's words are recorded up to their limit, whatever their length hides",
  ),
  recordedNoticesPerCommandMax: connection("notices of a command are recorded up to the limit, and all are passed on"),
  recordingQueueBytesMax: recording("takes no event past its queue's limit, and goes on once there is room"),
  recordingLagMsMax: recording("in group lets nothing run once its oldest event waits longer than the limit"),
  recordingFlushMs: recording("is written after the flush's time"),
  recordingSyncMs: test("durability.live.test.ts", "group: a disk that fails is noticed within moments"),
  chunkBytesTarget: recording("is written at once when it is as large as a chunk"),
  chunkBytesMax: test("cli/store-source.test.ts", "what a few bytes say is gigabytes is not made of them"),
  journalFileBytes: test("recording/journal.test.ts", "its files take turns, and hold what the store may not have"),
  journalBatchBytes: test("recording/journal.test.ts", "what nobody waits for is written once it is long"),

  apiBodyBytesMax: test(
    "api/app.test.ts",
    "a malformed query, body or content type is refused, and an oversized body too",
  ),
  apiRequestTimeoutMs: test(
    "api/serve.test.ts",
    "a connection that sends no request, or never ends one, is closed, and a slow answer is waited for",
  ),
  apiPageMax: test("api/app.test.ts", "a malformed query, body or content type is refused, and an oversized body too"),
  apiStreamsMax: test("api/app.test.ts", "one stream too many is refused, and one that ended makes room"),
  apiStreamsPerIdentityMax: test(
    "api/app.test.ts",
    "one stream too many of an identity is refused, another's is served, and one that ended makes room",
  ),
  apiRequestsMax: test(
    "api/app.test.ts",
    "one request too many, of all or of an identity, is refused, and one that was answered makes room",
  ),
  apiRequestsPerIdentityMax: test(
    "api/app.test.ts",
    "one request too many, of all or of an identity, is refused, and one that was answered makes room",
  ),
  apiExportsMax: test(
    "api/app.test.ts",
    "one recording too many to be sent is refused, of all or of an identity; one that ended makes room",
  ),
  apiExportsPerIdentityMax: test(
    "api/app.test.ts",
    "one recording too many to be sent is refused, of all or of an identity; one that ended makes room",
  ),
  verificationsMax: test(
    "recording/search.test.ts",
    "one recording too many to verify is refused, and one that was verified makes room",
  ),
  searchesMax: test("recording/search.test.ts", "one search too many is refused, and one that ended makes room"),
  searchMsMax: test("recording/search.test.ts", "a search whose time is over says where the next goes on"),

  drainMs: test("config.test.ts", "what is not said is the limits' own"),
};
