/**
 * Every bound of the gateway, by name. Past a bound the gateway refuses or applies backpressure; it never grows.
 * Units are the last word of a name. Values that a deployment may need to change are read from the configuration,
 * which takes these as defaults.
 */
export const limits = {
  // --- identity ---
  tokenBytesMax: 16_384,
  claimDepthMax: 8,
  groupsMax: 1_000,
  jwksCooldownMs: 30_000,
  jwksMaxAgeMs: 600_000,
  identityFetchTimeoutMs: 5_000,
  /** One discovery document, key set or token response. */
  identityDocumentBytesMax: 512 * 1_024,
  /** After an issuer could not be read, its tokens are refused this long before it is asked again. */
  identityRetryMs: 1_000,
  loginTimeoutMs: 600_000,
  /** A session ends this soon after its token expires (plus the issuer's stated grace). */
  expiryCheckMs: 1_000,

  // --- client connections ---
  connectionsMax: 2_000,
  unauthenticatedConnectionsMax: 256,
  startupTimeoutMs: 15_000,
  startupPacketBytesMax: 10_000,
  /** One message of a client that has not logged in yet, as PostgreSQL bounds it; nothing more of it is read ahead. */
  loginMessageBytesMax: 65_536,
  tlsHandshakeTimeoutMs: 10_000,

  // --- PostgreSQL messages ---
  /** One message from a client, Query and Bind included. */
  clientMessageBytesMax: 16 * 1_024 * 1_024,
  /** A client may stay this long inside one unfinished message. */
  clientMessageStallMs: 60_000,
  /** One message from a target; a single field can be 1 GB in PostgreSQL, which is not served. */
  upstreamMessageBytesMax: 64 * 1_024 * 1_024,
  columnsMax: 1_664,
  parametersMax: 65_535,
  errorFieldBytesMax: 1_024 * 1_024,
  preparedStatementsMax: 10_000,
  portalsMax: 10_000,
  /** Messages a session may have in flight (sent to the target and unanswered); past it the client is no longer read. */
  messagesInFlightMax: 10_000,
  /** A target that takes data of a COPY passes over them, but once that has failed each is answered. */
  syncsInCopyMax: 100_000,
  /** Characters of one session's prepared statements together. */
  preparedTextLengthMax: 32 * 1_024 * 1_024,
  /** Parameters of one session's portals together; binary ones count as hex. */
  portalParametersLengthMax: 64 * 1_024 * 1_024,
  /** Bytes waiting for the recording before a target gets them; past it the client is no longer read. */
  upstreamBufferBytesMax: 256 * 1_024,
  upstreamConnectTimeoutMs: 10_000,
  scramIterationsMax: 1_000_000,
  /** What a target may send before it is ready for the first query. */
  upstreamStartupMessagesMax: 1_000,
  upstreamStartupMessageBytesMax: 64 * 1_024,
  /** The answer to one query of the gateway's own, which is read in full. */
  catalogQueryBytesMax: 256 * 1_024 * 1_024,

  // --- SQL ---
  sqlTextBytesMax: 4 * 1_024 * 1_024,
  sqlDepthMax: 500,
  statementsPerQueryMax: 1_000,
  /** Columns and items looked at while one command is analysed, some 100 ns each; a node counts as ten. */
  analysisStepsMax: 4_000_000,
  analysisCacheEntriesMax: 10_000,
  /** Characters of one session's texts together, and of what is kept of their analysis. */
  analysisCacheLengthMax: 32 * 1_024 * 1_024,
  catalogRelationsMax: 200_000,
  /** Columns of one database that have a label, counted once for each name that they have it by. */
  labelBindingsMax: 100_000,
  catalogRefreshMs: 2_000,

  // --- policy ---
  /** A client's largest message has room, its binary parameters in hex: a policy may look at them. */
  policyInputBytesMax: 33 * 1_024 * 1_024,
  /** Functions, relations, features and reasons of one command together, each once: rules name each of them. */
  policyInputNamesMax: 2_000,
  policyMemoryPagesMax: 4_096,
  policyEvaluationMs: 2_000,
  /** From a portal's verdict to its first Execute; later it is judged again, as policy may look at the time. */
  portalJudgementMsMax: 10_000,
  decisionCacheEntriesMax: 50_000,
  bundleBytesMax: 32 * 1_024 * 1_024,
  /** A new policy must have shown itself good after this long, in a process of its own. */
  policyTrialMs: 15_000,
  /** Files must be unchanged this long before they are read: who writes them may not be done. */
  policySettleMs: 150,
  /** Files that never settle are read all the same after this long. */
  policySettleMsMax: 2_000,
  /** Files are looked at this often, where their folder does not tell of changes. */
  policyLookMs: 500,
  /** One request to a bundle server, from connecting to the last byte. */
  policyFetchTimeoutMs: 30_000,
  /** The first wait after a refused policy or a failing bundle server; it doubles up to the second. */
  policyRetryMs: 5_000,
  policyRetryMsMax: 600_000,

  /** Counts of commands, one an identity, target and rule that bounds their rate. */
  rateLogsMax: 10_000,

  // --- approvals ---
  approvalsPendingPerIdentityMax: 20,
  approvalsPendingMax: 1_000,
  approvalTtlMsMax: 24 * 3_600_000,
  approvalPollMs: 500,
  /** Of what approvers see: a longer command is not held, as it could not be read whole. */
  approvalTextLengthMax: 100_000,
  /** Of each parameter among it; the rest is said to be left out. */
  approvalParameterLengthMax: 1_000,

  // --- recording ---
  recordedTextBytesMax: 1_024 * 1_024,
  recordedParameterBytesMax: 64 * 1_024,
  recordedRowBytesPerCommand: 256 * 1_024,
  recordedNoticesPerCommandMax: 100,
  /** Characters of each field of an error or notice. */
  recordedFieldLengthMax: 64 * 1_024,
  /** Events waiting for the writer before a session is stopped rather than left unrecorded. */
  recordingQueueBytesMax: 64 * 1_024 * 1_024,
  recordingLagMsMax: 10_000,
  recordingFlushMs: 20,
  /** In `group`, from a commit to its sync: what a power cut may take, and the flush before it. */
  recordingSyncMs: 1_000,
  chunkBytesTarget: 256 * 1_024,
  /** Of one that is read, decompressed. Recovery may write what both files of the journal had of one session. */
  chunkBytesMax: 144 * 1_024 * 1_024,
  /** Each of the journal's two files, but for the last record in it. */
  journalFileBytes: 4 * 1_024 * 1_024,
  /** Of events that nobody waits for yet. */
  journalBatchBytes: 256 * 1_024,

  // --- API ---
  apiBodyBytesMax: 64 * 1_024,
  /** A connection that has sent no whole request is closed after this long, in Bun's coarse steps. */
  apiRequestTimeoutMs: 10_000,
  apiPageMax: 1_000,
  apiStreamsMax: 200,
  apiStreamsPerIdentityMax: 10,
  /** Requests being answered, but for event streams. */
  apiRequestsMax: 100,
  apiRequestsPerIdentityMax: 8,
  /** Recordings being sent. */
  apiExportsMax: 32,
  apiExportsPerIdentityMax: 4,
  /** Searches of recordings that are under way or wait. */
  searchesMax: 16,
  /** As many to verify. */
  verificationsMax: 16,
  /** One request's search; the next goes on where it ended. */
  searchMsMax: 2_000,

  // --- shutdown ---
  drainMs: 30_000,
} as const;
