// Package plugin holds the commands of kubectl modelrights. They print to streams that they are given and return errors
// with an exit status; only main ends the process.
package plugin
