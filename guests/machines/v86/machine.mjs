// One machine under v86, without a window: `node machine.mjs CONFIG.json`.
//
// CONFIG names files of the host (see guests/machines/v86/launch.py) and says what the machine is to do:
//   lines   unix socket to listen at once the guest is ready; each connection gets a line of the guest for one program
//   server  unix socket of a 9P server, "" for one that nobody asks yet; null: v86's own server, in memory
//   state   a saved machine to restore; null: boot
//   save    save the machine there once it is ready, and end
//
// Standard output is the guest's first serial line; what this program has to say stands among it as "9p: v86: ...".
// It ends with the process that started it.

import fs from "node:fs";
import net from "node:net";
import { pathToFileURL } from "node:url";

const config = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const { V86 } = await import(pathToFileURL(config.v86 + "/libv86.mjs").href);

const SIGN = 1, END = ";".charCodeAt(0);
const WINDOW = 24 << 10; // bytes that the guest has not said it has taken; its driver has 16 buffers of a page
const PIECE = 2048; // one buffer, or half of a serial line's queue in v86

function say(text) { process.stdout.write(`\n9p: v86: ${text}\n`); }
function end(status, why) { say(why); process.exitCode = status; process.stdout.write("", () => process.exit(status)); }

// A page of the browser goes on after an error in one request, whose sender then waits for ever. So do we.
process.on("unhandledRejection", error => say(`unhandled: ${error?.stack ?? error}`));
process.on("uncaughtException", error => end(3, `ended: ${error?.stack ?? error}`));

const file = path => ({ url: path, async: true, size: fs.statSync(path).size });
const bytes = path => {
    const read = fs.readFileSync(path);
    return { buffer: read.buffer.slice(read.byteOffset, read.byteOffset + read.byteLength) };
};

// ---- the 9P server's connection: whole messages in both directions, size[4] first

let reply = null;
function connectServer(path) {
    const socket = net.connect(path);
    let pending = Buffer.alloc(0);
    socket.on("data", data => {
        pending = pending.length ? Buffer.concat([pending, data]) : data;
        while (pending.length >= 4 && pending.length >= pending.readUInt32LE(0)) {
            const size = Math.max(7, pending.readUInt32LE(0));
            const message = new Uint8Array(pending.subarray(0, size));
            pending = pending.subarray(size);
            reply(message);
        }
    });
    socket.on("error", error => say(`the 9P server's connection: ${error.message}`));
    socket.on("close", () => end(4, "the 9P server closed the connection"));
    return socket;
}

let filesystem = {};
if (config.server !== null) {
    const server = config.server ? connectServer(config.server) : null; // a machine to be saved mounts nothing
    // v86 finds the request that a reply belongs to by its tag, so the newest function serves for all
    filesystem = { handle9p: (request, answer) => { reply = answer; server.write(Buffer.from(request)); } };
}

const emulator = new V86({
    wasm_path: config.v86 + "/v86.wasm",
    memory_size: config.memory_mb << 20, vga_memory_size: 1 << 20,
    bios: bytes(config.bios), bzimage: bytes(config.kernel), initrd: bytes(config.initramfs), cmdline: config.cmdline,
    hda: file(config.root), hdb: file(config.control), // read when asked for; what the guest writes stays in memory
    initial_state: config.state === null ? undefined : bytes(config.state),
    filesystem, virtio_console: true, uart1: true, uart2: true, uart3: true,
    disable_keyboard: true, disable_mouse: true, disable_speaker: true, autostart: true,
});

let written = [];
emulator.add_listener("serial0-output-byte", byte => {
    if (written.push(byte) === 1) setImmediate(() => { process.stdout.write(Buffer.from(written)); written = []; });
});

// ---- the lines: programs in the guest, one for each connection

class Line {
    constructor(name, device, number) {
        Object.assign(this, { name, device, number, socket: null, owed: [], underway: 0, sign: null, busy: false });
        this.listen();
    }

    listen() {
        if (this.device === "hvc") {
            emulator.add_listener(`virtio-console${this.number}-output-bytes`, data => this.output(Buffer.from(data)));
        } else {
            let gathered = [];
            emulator.add_listener(`serial${this.number}-output-byte`, byte => {
                if (gathered.push(byte) === 1) setImmediate(() => { const g = gathered; gathered = []; this.output(Buffer.from(g)); });
            });
        }
    }

    input(data) { // to the guest, as far as its window lets us
        this.owed.push(data);
        this.pump();
    }

    pump() {
        while (this.owed.length && this.underway < WINDOW) {
            const piece = this.owed[0].subarray(0, PIECE), rest = this.owed[0].subarray(PIECE);
            if (rest.length) this.owed[0] = rest; else this.owed.shift();
            this.underway += piece.length;
            if (this.device === "hvc") emulator.bus.send(`virtio-console${this.number}-input-bytes`, piece);
            else emulator.serial_send_bytes(this.number, piece);
        }
    }

    output(data) { // from the guest: what stands between SIGN and ";" is for us
        for (;;) {
            if (this.sign !== null) {
                const at = data.indexOf(END);
                this.sign += data.subarray(0, at < 0 ? data.length : at).toString("latin1");
                if (at < 0) return;
                const said = this.sign;
                this.sign = null;
                data = data.subarray(at + 1);
                this.signed(said);
            }
            const at = data.indexOf(SIGN);
            const plain = at < 0 ? data : data.subarray(0, at);
            if (plain.length && this.socket) this.socket.write(plain);
            if (at < 0) return;
            this.sign = "";
            data = data.subarray(at + 1);
        }
    }

    signed(said) {
        if (said[0] === "+") { this.underway -= Number(said.slice(1)); this.pump(); }
        if (said[0] === "-") {
            Object.assign(this, { owed: [], underway: 0, busy: false });
            this.socket?.end();
            this.socket = null;
        }
        if (said[0] === "!") ready(said.slice(1).split(","));
    }

    serve(socket) {
        Object.assign(this, { socket, busy: true });
        socket.on("data", data => this.input(data));
        socket.on("error", () => socket.destroy());
        socket.on("close", () => {
            if (this.socket !== socket) return;
            this.socket = null;
            this.owed = [];
            orders.order(`end ${this.name}`);
        });
    }
}

const orders = new Line("hvc0", "hvc", 0);
orders.order = text => emulator.bus.send("virtio-console0-input-bytes", Buffer.from(text + "\n"));
const lines = [new Line("hvc1", "hvc", 1), ...[1, 2, 3].map(number => new Line(`ttyS${number}`, "uart", number))];

let usable = [];
function ready(names) {
    usable = lines.filter(line => names.includes(line.name));
    if (config.save !== null) { setTimeout(save, 500); return; }
    orders.order(`time ${Date.now() / 1000}`);
    net.createServer(socket => {
        const line = usable.find(candidate => !candidate.busy);
        if (line) line.serve(socket); else socket.destroy();
    }).listen(config.lines);
}

async function save() {
    await emulator.stop();
    fs.writeFileSync(config.save, new Uint8Array(await emulator.save_state()));
    fs.writeFileSync(config.save + ".lines", usable.map(line => line.name).join(","));
    process.exit(0);
}

emulator.add_listener("emulator-loaded", () => {
    if (config.state !== null) setTimeout(() => ready(fs.readFileSync(config.state + ".lines", "utf8").split(",")), 0);
});
