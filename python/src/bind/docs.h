// What Python's help() and the reference say of each public name. A line `name: text` describes an
// argument, `raises Name: text` an exception; lines that are indented below belong to it.
#pragma once

namespace understudy::python::docs {

inline constexpr auto kCheckpointer = R"(One directory of steps: save, restore, resume, retention.

Reading needs no lock. The first save locks the directory for this process and removes what
writers that ended early have left. A context manager: leaving it calls close(). May be used from
several threads; in a forked child every call raises Error (closed).

directory: the folder of the run; made, with its parents, when it is missing. A relative one is
    fixed now, whatever the working directory is later. A URL, a '~' that no shell has expanded and
    a step's own folder are Error (invalid).
keep: which complete steps are kept: an int, so many of the newest; a Keep, by rule. The others are
    removed after a save. None keeps all.
memory: what the images are made of: 'pageable'; 'pinned', page-locked, which needs a CUDA driver
    and starts it; 'auto', pinned in a process that uses CUDA and else pageable. 'shared' is not
    supported in this version.
group: the processes that save together. None: the default group of torch.distributed, where it is
    initialised with more than one process; else, and with False, this process alone. A
    ProcessGroup: its members. All of them make the same calls in the same order, the making and
    close() included; what one of them cannot do is raised by all.
timeout: seconds that a process waits for another one, before the call or the ticket fails with
    Error (timeout). The making waits for a minute at most.
per_rank: keys of the state whose values are each process's own (a data loader). All are kept, and
    each process resumes its own; with another number of processes that is an error, or, with
    strict=False, they stay as they are. An RngState is one by itself, and so is what
    understudy.per_rank has marked.
survive: True keeps images as files in /dev/shm, a path in that folder in memory (a tmpfs): the
    newest captured state outlives the process, and the next run resumes from it. It ends with the
    machine. Needs room there for `images` times the state, and for this process alone.
when_no_room: what is done where images cannot survive, because the folder in memory cannot be used
    or is full: 'error', or 'go_on', with images that end with the process; Ticket.metrics() says so
    under 'memory' and 'survival'.
capture: 'blocking' copies the state before save() returns; 'overlapped' protects its pages and
    copies them while training goes on, and is an error where that is impossible; 'auto' overlaps
    where that is safe and costs training less. Ticket.capture says which it was, and why.
images: captured states that may exist at once; each takes the size of the state.
when_busy: what save() does when every image is in use: 'wait'; 'skip', which returns a ticket
    that fails with Error (busy); 'error', which raises that.
huge_pages: collapse the state's memory into huge pages at the first overlapped capture, which
    makes later ones cheaper.
threads: copying threads; None: the cores that this process may use, which the ranks of one machine
    share.
allow_pickle: save objects that have no other representation as pickles, and load such files. A
    pickle can execute any code: load only what you trust.
writer: how steps are written: 'auto' (the best that the folder takes), 'io_uring', 'threads'
    (both past the page cache) or 'buffered' (through it). Ticket.metrics() names the one that
    wrote, and why no better one.
max_write_rate: bytes a second that are written at most, 1 MiB or more. None: no limit.
raises Error: invalid for an argument that makes no sense, unsupported for what this machine or
    version cannot do, io when the folder cannot be made, timeout when another process of the group
    makes none.)";

inline constexpr auto kKeep = R"(Which complete steps are kept after a save.

A step stays if any of the three says so, and the newest always does.

last: how many of the newest steps stay, by number.
every: each step whose number is a multiple of this stays, too. None: none.
best: (name, 'min' or 'max', n): the n steps with the smallest or largest number under this name in
    the metadata that save() was given stay, too. A step without such a number, or with NaN, is
    never among them; of equal ones the newer is. None: none.
raises Error: invalid for anything else.)";

inline constexpr auto kSave = R"(Capture a state, then write it in the background.

Saves are written in the order of the calls. What is written to the state after the call returns is
not in the step. No thread may write the state during the call.

step: its number, from 0 up.
state: tensors, numbers, text, containers, and objects with state_dict() and load_state_dict().
metadata: kept in the step's manifest: a dict of None, bool, int, float (NaN and infinities, too),
    str, lists and dicts of these, and NumPy's and torch's numbers, 0-d tensors included.
overwrite: replace a step that exists, atomically.
urgent: go before saves that wait, and drop those of them that are not urgent: their tickets fail
    with Error (busy), and no later call raises that again.

Returns a ticket whose result is the step's path, once it is durable.

raises Error: invalid when the step exists, unsupported with the path of an object that cannot be
    saved, busy when another process writes here, closed after close(); also the failure of an
    earlier save that nobody has seen.)";

inline constexpr auto kCheckpointerPrewarm =
    R"(Make all images ready for states like this one, in the background and at low priority.

The first use of memory takes longer than the copy. Nothing is captured.

state: as for save().

Returns a ticket whose result is the bytes of memory made ready.

raises Error: as save() for a state that cannot be captured.)";

inline constexpr auto kRestore = R"(Read a step into new tensors.

step: its number; None: the newest complete one.
names: only these parts: a name or several, exact or prefixes ('model' takes all below it).
source: 'memory', only what survived there; 'disk'; 'auto', the newest that is whole.
raises Error: not_found when there is no such step or name, corrupt when it is damaged (the message
    names the newest other complete step), unsupported when it holds pickles and allow_pickle is
    False.)";

inline constexpr auto kResume = R"(Read a step into the caller's own tensors and objects, in place.

First every byte is read and verified, then all parts are compared with the state, and only then is
anything changed.

state: as it was saved: a dict, a list, or an object with state_dict() and load_state_dict().
step: its number; None: the newest complete one.
names: only these parts, each with all below it ('model', 'model.encoder'). The rest stays as it is.
strict: False restores what fits, and leaves the rest as it is; `resumed` lists it as missing,
    unexpected and mismatched.
rename: a dict of prefixes of saved paths, or of keys in them, and their new texts
    ({'_orig_mod.': ''}), or a function from path to path.
convert: True takes tensors of another dtype, converted as ``torch.Tensor.copy_`` does.
on_damage: what to do when the newest step is damaged: 'error', or 'previous', which takes the
    newest whole one before it. `resumed` lists what was skipped. Without effect with `step`.
source: 'memory', only what survived there (see `survive`); 'disk'; 'auto', the newest of both that
    is whole: what is wrong with newer ones in memory is in `resumed.skipped`, whatever on_damage
    says. `resumed.source` says which it was; from memory, the step is then written to the disk.
discard_newer: give up the steps above the one that is resumed, durably, so that a later resume does
    not return to them. Takes the directory's lock.

Returns the step, or None when the directory has none.

raises Error: invalid when the state does not fit (the message lists all differences), not_found
    when there is no step of that number or nothing of a name, corrupt when it is damaged,
    unsupported for a value that cannot be built here. Nothing was changed then, unless the message
    says that the state was overwritten in part.)";

inline constexpr auto kWaitAll =
    R"(Wait for all saves, and raise the first failure that nobody has seen.

timeout: seconds; None: without limit.

Returns False when the time ran out first, else True.)";

inline constexpr auto kCloseCheckpointer =
    R"(Wait as wait() does, raise what it would, and end. Safe to call again.)";

inline constexpr auto kSaveFile = R"(Write a state to one safetensors file, replacing it atomically.

Durable when it returns. Streams: needs a few MiB beside the state. No thread may write the state
meanwhile.

state: tensors, numbers, text, containers, and objects with state_dict().
path: the file; a link is followed.
metadata: text to text, kept in the file's header.
allow_pickle: save objects that have no other representation as pickles.
writer: 'auto', 'io_uring', 'threads' or 'buffered', as for Checkpointer.
raises Error: unsupported with the path of an object that cannot be saved, invalid for an argument
    that makes no sense, no_space when the disk is full, io when the system refuses.)";

inline constexpr auto kLoadFile = R"(The state of a safetensors file.

With its containers, types and sharing when Understudy wrote it; else a flat dict of tensors.

path: the file; or a step's folder; or the folder of a Hugging Face model, of one file or several
    with an index, whose tensors come whole from all of them.
names: only these parts: a name or several, exact or prefixes ('model' takes all below it). Only
    the blocks that they touch are read.
mmap: tensors over a private copy-on-write mapping of the file, which must stay as it is while they
    live: touching a part that was cut off ends the process.
verify: check the checksums of what is read, where the file has them.
allow_pickle: load pickled objects. A pickle can execute any code: load only what you trust.
raises Error: not_found when there is no such file or name, corrupt when the bytes are not what was
    written, unsupported when it holds pickles and allow_pickle is False or is another kind of file
    (which the message names), invalid for a folder that is none of these.)";

inline constexpr auto kStager =
    R"(Makes snapshots of states; keeps its plan and its images between calls.

One stage() at a time: a second thread waits. A context manager: leaving it calls close().

images: snapshots that may exist at once; each takes the size of the state.
memory: 'auto', 'pageable' or 'pinned', as for Checkpointer.
capture: 'auto', 'blocking' or 'overlapped', as for Checkpointer.
when_busy: what stage() does when every image is leased: 'wait'; 'skip', which returns a ticket
    that fails with Error (busy); 'error', which raises that.
huge_pages: as for Checkpointer.
threads: copying threads; None: the cores that this process may use.
raises Error: invalid for an argument that makes no sense, unsupported for what this machine or
    version cannot do.)";

inline constexpr auto kStage =
    R"(Capture a state. What is written to it later is not in the snapshot.

No thread may write the state during the call.

state: tensors, numbers, text, containers, and objects with state_dict().

Returns a ticket whose result is a Snapshot.

raises Error: unsupported with the path of what cannot be captured, no_space when there is no memory
    for an image, busy with when_busy='error'.)";

inline constexpr auto kStagerPrewarm =
    R"(Make all images ready for states like this one, in the background and at low priority.

The first use of memory takes longer than the copy. Nothing is captured.

state: as for stage().

Returns a ticket whose result is the bytes of memory made ready.

raises Error: as stage() for a state that cannot be captured.)";

inline constexpr auto kSnapshot = R"(A sealed copy of a state in memory.

Leases its image until it is closed and the last tensor of state() is gone. A context manager:
leaving it calls close().)";

inline constexpr auto kSnapshotSaveFile =
    R"(Write it as one safetensors file; durable when it returns.

path: the file; replaced atomically.
metadata: text to text, kept in the file's header.
raises Error: closed after close(), unsupported with the path of an object that no file can hold,
    no_space when the disk is full, io when the system refuses.)";

inline constexpr auto kTicket = R"(What a call in the background returns: wait for its result here.

Carries the first failure, and knows progress and figures. May be used from any thread.)";

inline constexpr auto kTicketWait = R"(Block until done, and give the result.

timeout: seconds; None: without limit.

Returns a Snapshot, the step's path once it is durable, or the bytes made ready. May be called
again.

raises Error: timeout when the time ran out first; else the failure of the work itself.)";

inline constexpr auto kWaitCaptured = R"(Block until the snapshot is complete.

timeout: seconds; None: without limit.
raises Error: timeout when the time ran out first; else the failure of the capture.)";

inline constexpr auto kMetrics = R"(Where the time went, as a dict.

- ``blocked_s``: seconds that the call took its caller; ``waited_s``: the part of it that was spent
  waiting for an image or an earlier capture.
- ``captured_s``, ``durable_s``: seconds from the call until the snapshot was complete, and until it
  was on disk (0 for a stage, and until then).
- ``nbytes``: bytes of the file, its header included.
- ``memory``, ``writer``: what the image is made of and who wrote, and why nothing better.
- ``survival``, ``sealed_s``: with `survive`, 'sealed' or why not ('' until that is known), and the
  seconds from the call until then.
- ``plan``: 'new'; 'same', the last one after a walk over the state; 'again', without a walk.
- ``at_once_nbytes``: bytes copied before the call returned; ``faults``: writes that waited for a
  page; ``faults_nbytes``: bytes copied for them.
- ``newer_step``: a higher step that the folder had at the call, which resume() takes first; else
  None.
- ``unremoved``: what retention could not remove after this save, and why; else ''.)";

}  // namespace understudy::python::docs
