// The connection to the server: one WebSocket, opened again whenever it is lost.

const kPingMs = 1000;    // how often the server hears that this page lives
const kSilentPings = 3;  // without any frame during so many of them the connection counts as lost
const kRetryMs = [200, 400, 800, 1600, 2000];

/// Calls `on.open()`, `on.closed(once_open)`, `on.message(object)`, `on.picture(header, blob)`.
/// `token`: asked before each attempt; null where the server wants none.
export class Link {
  constructor(on, token) {
    this.on = on;
    this.token = token;
    this.socket = null;
    this.failures = 0;
    this.latencyMs = null;  // there and back, of the newest ping
    this.clockMs = null;    // server's clock minus ours, of the quickest of the pings
    this.quickestMs = Infinity;
    setInterval(() => this.watch(), kPingMs);
  }

  get isOpen() { return this.socket?.readyState === WebSocket.OPEN; }

  async connect() {
    this.retry = null;
    const token = await this.token();
    const address = new URL('/console/ws', location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    if (token) address.searchParams.set('token', token);
    const socket = this.socket = new WebSocket(address);
    socket.binaryType = 'arraybuffer';
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.failures = 0;
      this.silent = 0;  // pings since the newest frame; no clock: a page that slept finds its frames waiting
      this.on.open();
      this.watch();
    };
    socket.onmessage = event => {
      if (socket !== this.socket) return;
      this.silent = 0;
      if (typeof event.data === 'string') this.text(event.data);
      else this.binary(event.data);
    };
    socket.onclose = () => { if (socket === this.socket) this.lost(opened); };
  }

  /// Whether it could be sent.
  send(message) {
    if (!this.isOpen) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  text(data) {
    const message = JSON.parse(data);
    if (message.type !== 'pong') return this.on.message(message);
    this.latencyMs = performance.now() - message.t;
    if (this.latencyMs > this.quickestMs) return;
    this.quickestMs = this.latencyMs;
    this.clockMs = message.server_ms + this.latencyMs / 2 - Date.now();
  }

  // u32 little-endian N, N bytes of JSON, a picture
  binary(data) {
    const length = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    this.on.picture(header, new Blob([new Uint8Array(data, 4 + length)], {type: header.format}));
  }

  watch() {
    if (!this.isOpen) return;
    if (++this.silent > kSilentPings) {
      const socket = this.socket;
      this.lost(true);  // at once: a dead peer never answers the closing handshake
      socket.close();
      return;
    }
    this.send({type: 'ping', t: performance.now()});
  }

  lost(opened) {
    this.socket = null;
    this.latencyMs = null;
    this.quickestMs = Infinity;
    this.on.closed(opened);
    const wait = kRetryMs[Math.min(this.failures++, kRetryMs.length - 1)];
    this.retry ??= setTimeout(() => this.connect(), wait);
  }
}
